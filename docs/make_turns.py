"""Write docs/turns.md from the tables of the turn machine: ``python docs/make_turns.py``."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turn_state import PUBLIC_AGENT, PUBLIC_USER, AgentState, CallerState, Timer
from patter_trio.conversation.turn_table import AGENT, CALLER, Rule, Trigger, ignored

PAGE = Path(__file__).with_name("turns.md")

HEAD = """# The rules of turn-taking

This page is generated from the tables in `patter_trio/conversation/turn_table.py` by `python docs/make_turns.py`. A
test fails if it is out of date.

Turn-taking is two small state machines that watch each other: what the caller is doing, and what the agent is doing.
When an input arrives or a deadline is due, the table names the rule that applies in the machine's present state. An
empty cell means that nothing happens. Deadlines before an input fire first, each at its own time. An input at the very
instant of a deadline goes first.
"""


def name_of(trigger: Trigger) -> str:
    """Return the name of a trigger, as the page shows it."""
    if isinstance(trigger, Timer):
        return f"*{trigger.value}* is due"
    return f"`{trigger.__name__}`" if isinstance(trigger, type) else f"*{trigger.value}* of the caller"


def cell(rule: Rule) -> str:
    """Return a rule's name; empty for ``ignored``."""
    return "" if rule is ignored else rule.__name__.replace("_", " ")


def table(rules: Mapping[Trigger, Mapping[Any, Rule]], states: Iterable[StrEnum]) -> str:
    """Return one of the two tables."""
    columns = [state.value for state in states]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for trigger, row in rules.items():
        lines.append(f"| {name_of(trigger)} | {' | '.join(cell(rule) for rule in row.values())} |")
    return "\n".join(lines)


def glossary() -> str:
    """Return what each rule does: the first line of its docstring."""
    rules = {rule.__name__: rule for rows in (CALLER, AGENT) for row in rows.values() for rule in row.values()}
    return "\n".join(
        f"* **{name.replace('_', ' ')}**: {(rule.__doc__ or '').strip().splitlines()[0]}"
        for name, rule in sorted(rules.items())
        if rule is not ignored
    )


def publics(states: Mapping[Any, str]) -> str:
    """Return the public state of each state that is published under another name."""
    return ", ".join(f"{state.value} as *{public}*" for state, public in states.items() if state.value != public)


def numbers() -> str:
    """Return the rows of durations and counts with their defaults."""
    policy = attrs.asdict(TurnPolicy())
    switches = {
        "needs_words",
        "early_trigger",
        "language",
        "key_terminator",
        "keys_interrupt",
        "keys_choose",
    }  # they select rules; they are not numbers
    return "\n".join(f"| `{name}` | {number:g} |" for name, number in policy.items() if name not in switches)


def page() -> str:
    """Return the whole page."""
    return f"""{HEAD}
## What the caller is doing

{table(CALLER, CallerState)}

In `conversation_state`: {publics(PUBLIC_USER)}.

## What the agent is doing

{table(AGENT, AgentState)}

In `conversation_state`: {publics(PUBLIC_AGENT)}.

## The rules

{glossary()}

After every rule the machine derives what follows from both states together. An answer's audio goes out when the caller
is not speaking and has certainly finished, or when the caller may not interrupt it. Voice over an agent that is being
heard starts *overlap*, counted from the voice's onset. While neither side speaks, *away* runs.

## Late and corrected words

Until the caller hears the answer, more words belong to the same message: the answer is retracted, and the whole message
is committed in a new turn (`CommitUser` with `replaces`). That holds for a caller who goes on, and for final words that
come late.

Interim words are committed if their final words are late. When these come:

* they are the same words, apart from case, punctuation, spaces and the format of numbers: the entry is corrected;
* they are other words, and the answer is unheard: they take the place of the interim ones, in a new turn;
* they are other words, and the answer was heard: the entry is corrected as far as it stands for the interim words, and
  additional words are the next turn.

## A voice without more words

A VAD may hear noise for as long as it lasts. When an STT that gives words in mid-voice has given none for *lull*,
although something waits for an answer, it is asked (`AskForWords`). If it finds no more words, the voice ended where
its last words came. If it finds some, the caller is still speaking, and the next *lull* is twice as long.

## Keys

Keys of the caller are collected until the terminator, the last of *max_keys*, or *keys* (`key_pause`) after the newest.
Then they are final words, and the utterance is over at once; so is a voice that goes on, as if the STT had ended the
turn. While they are collected, what the caller has said waits for them. A key, and a text that was typed, cut the reply
at once, as far as the caller may interrupt it. With a menu, complete keys are its choice (`Choose`), and no message.

## A goodbye that is cut

A reply that ends the call, by a tool such as `end_call`, may be interrupted. If the caller then says nothing but a
farewell, thanks or an acknowledgement, or nothing at all, the tool runs (`ResumeGoodbye`). Any other words are
answered, and the LLM learns that the tool has not run (`DropGoodbye`).

## Speech-to-speech engines

With an engine (`needs_words` is false in the policy) there are no recognised words, and a voice alone is an utterance.
*final*, *words* and the rules for late words do not apply.

* The utterance is over after *endpoint*. If the engine ends turns itself (`FinalWords` without text), the utterance is
  over as soon as the engine says so, even while the voice goes on; *endpoint* then only serves as a fallback.
* If the caller adds something before the answer is heard, the answer is retracted when that voice ends, not when it
  begins.
* A voice over the agent that was too short to interrupt is dropped if the agent is still speaking when the machine
  decides about it. Any other voice waits until the agent has finished, and is answered then.
* A voice that is still going on when *stuck* is due counts as over.

## The numbers

In seconds. You set some of them with `phone.agent(...)`: `endpointing_ms` (endpoint), `barge_in_threshold_ms`
(overlap), `barge_in_min_words` (min_words, a number of words) and `user_away_timeout` (away).

| | default |
|---|---|
{numbers()}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

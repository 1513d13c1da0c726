"""Writes docs/turns.md from the tables of the turn machine: ``python docs/make_turns.py``."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turn_state import PUBLIC_AGENT, PUBLIC_USER, Agent, Caller, Timer
from patter_trio.conversation.turn_table import AGENT, CALLER, Rule, Trigger, ignored

PAGE = Path(__file__).with_name("turns.md")

HEAD = """# The rules of turn-taking

Made from the tables in `patter_trio/conversation/turn_table.py` by `python docs/make_turns.py`; a test keeps it true.

Turn-taking is two small machines that watch each other: what the caller is doing, and what the agent is doing. Something
happens, or a deadline falls due; the table says which rule applies in the state that the machine is in. An empty cell:
nothing happens. A deadline that was due before an input is fired first, at its own time; an input at the very instant of
a deadline comes first.
"""


def name_of(trigger: Trigger) -> str:
    """Return what the reader calls a trigger."""
    if isinstance(trigger, Timer):
        return f"*{trigger.value}* is due"
    return f"`{trigger.__name__}`" if isinstance(trigger, type) else f"*{trigger.value}* of the caller"


def cell(rule: Rule) -> str:
    """Return a rule's name, or nothing for the rule that does nothing."""
    return "" if rule is ignored else rule.__name__.replace("_", " ")


def table(rules: Mapping[Trigger, Mapping[Any, Rule]], states: Iterable[StrEnum]) -> str:
    """Return one of the two tables."""
    columns = [state.value for state in states]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for trigger, row in rules.items():
        lines.append(f"| {name_of(trigger)} | {' | '.join(cell(rule) for rule in row.values())} |")
    return "\n".join(lines)


def glossary() -> str:
    """Return what each rule does, by its own docstring."""
    rules = {rule.__name__: rule for rows in (CALLER, AGENT) for row in rows.values() for rule in row.values()}
    return "\n".join(
        f"* **{name.replace('_', ' ')}**: {(rule.__doc__ or '').strip().splitlines()[0]}"
        for name, rule in sorted(rules.items())
        if rule is not ignored
    )


def publics(states: Mapping[Any, str]) -> str:
    """Return which public state each state is seen as."""
    return ", ".join(f"{state.value} as *{public}*" for state, public in states.items() if state.value != public)


def numbers() -> str:
    """Return the durations and counts, and their defaults."""
    policy = attrs.asdict(TurnPolicy())
    switches = {"words", "sure_by"}  # for an engine; the prose has them
    return "\n".join(f"| `{name}` | {number:g} |" for name, number in policy.items() if name not in switches)


def page() -> str:
    """Return the whole page."""
    return f"""{HEAD}
## What the caller is doing

{table(CALLER, Caller)}

Seen from outside (`conversation_state`): {publics(PUBLIC_USER)}.

## What the agent is doing

{table(AGENT, Agent)}

Seen from outside: {publics(PUBLIC_AGENT)}.

## The rules

{glossary()}

After every rule follows what both states together call for: an answer's audio goes out when the caller is neither
speaking nor still being waited for, or when nothing may interrupt it; voice over an agent that is heard starts *overlap*
at the voice's onset; when nobody speaks, *away* runs.

## Where an engine hears for itself

With an engine (`words` is false in the policy) no words come, and a voice alone is an utterance; *final*, *words* and
late words have nothing to do. The utterance is over after *endpoint*; if the engine ends turns itself (a `Final`
without words), at once when it says so, in mid-voice, too, and *endpoint* is only the way out for one that never does.
What the caller adds before the answer is heard takes it back when it is over, not when it begins. A voice over the
agent that was too short to interrupt is dropped, if the agent still speaks when it is decided about; any other waits
for an agent who has the floor, and is answered then. A voice that lasts for longer than *stuck* counts as over.

## The numbers

Seconds; those of `phone.agent(...)` are `endpointing_ms` (endpoint), `barge_in_threshold_ms` (overlap),
`barge_in_min_words` (min_words, words) and `user_away_timeout` (away).

| | default |
|---|---|
{numbers()}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

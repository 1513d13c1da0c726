"""The agent that briefs the person who is to take a call over."""

from collections.abc import Callable
from typing import Final

import attrs

from patter_trio.agent.agent import Agent
from patter_trio.agent.keypad import KEYS
from patter_trio.agent.menu import Choice, Menu

ACCEPT_KEY: Final = "1"
"""The key with which the person takes the call."""
DECLINE_KEY: Final = "2"
"""The key with which the person declines it."""
# Judged: a person who has understood presses within some seconds.
PROMPT_AGAIN_S: Final = 6.0
"""Seconds of silence after which the person hears the prompt again."""
# Far more than fit into the time for a decision, which ends them.
MAX_PROMPTS: Final = 100


def briefing_agent(
    agent: Agent, text: str, prompt: str, accept: Callable[[], None], decline: Callable[[], None]
) -> Agent:
    """Return the agent that tells ``text`` to a person, asks for a key, and calls one of the two functions.

    Args:
        agent: the agent of the call that is transferred; its voice speaks.
        text: the briefing; empty: only the prompt is spoken.
        prompt: the question.
        accept: called when the person takes the call.
        decline: called when the person declines it.
    """
    # Each other key repeats the question: what Menu says of a wrong key is English.
    choices: dict[str, Choice] = {**dict.fromkeys(sorted(KEYS), prompt), ACCEPT_KEY: accept, DECLINE_KEY: decline}
    menu = Menu(choices, prompt=prompt, repeat_after=PROMPT_AGAIN_S, repeats=MAX_PROMPTS)
    return attrs.evolve(
        agent,
        # A function or a model may write blanks alone: then the person hears only the prompt.
        first_message=text.strip(),
        dtmf=menu,
        # What the person says is not answered, so nothing of the conversation with the caller applies.
        tools=(),
        turn_detector=None,
        user_away_timeout=None,
        silence_timeout=None,
        # To connect the person with the same or another person would help nobody.
        on_failure=None,
    )

"""The live view of ``patter-trio run`` on a terminal: a table of the calls, below the lines of the log."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from patter_trio.call.control import CallControl
from patter_trio.cli.terminal import ALERT, FAINT, STYLES, printable
from patter_trio.phone_numbers import mask_number, shown_id

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Judged: a reader sees each change, and the table costs less than 1 % of a core.
REFRESH_INTERVAL_S: Final = 0.5
"""Seconds from one drawing of the table to the next."""
# A screen has 24 lines or more; the log needs some of them.
MAX_ROWS: Final = 12
"""Most calls in the table; it says how many others there are."""
_MAX_WORDS_CHARACTERS: Final = 200
_STATES: Final = {"speaking": "speaks", "thinking": "thinks", "away": "away"}


async def show_calls(console: "Console", calls: Callable[[], Sequence[CallControl]]) -> None:
    """Draw the live calls until cancelled."""
    from rich.live import Live  # noqa: PLC0415 (only on a terminal: the import takes time)

    # Without a thread of its own: the table is drawn by this task, between two steps of the calls.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(calls_table(calls()), refresh=True)
            await trio.sleep(REFRESH_INTERVAL_S)


def calls_table(calls: Sequence[CallControl]) -> "Table":
    """Return the table of live calls, oldest first."""
    from rich.table import Table  # noqa: PLC0415 (as above)
    from rich.text import Text  # noqa: PLC0415 (as above)

    title = f"{len(calls)} live call{'' if len(calls) == 1 else 's'}"
    # Without a call, the title alone.
    table = Table(
        title=Text(title), title_justify="left", expand=True, box=None, pad_edge=False, show_header=bool(calls)
    )
    table.add_column("call", no_wrap=True)
    table.add_column("caller", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("turns", justify="right", no_wrap=True)
    table.add_column("now", no_wrap=True)
    table.add_column("last words", no_wrap=True, overflow="ellipsis", ratio=1)
    for call in calls[:MAX_ROWS]:
        metrics = call.metrics
        seconds = metrics.duration_seconds if metrics is not None else 0.0
        who, words = _last_words(call)
        table.add_row(
            Text(shown_id(call.call_id), FAINT),
            Text(mask_number(call.caller) or "withheld"),
            Text(f"{int(seconds) // 60}:{int(seconds) % 60:02d}"),
            Text(str(call.turn_idx)),
            _now(call),
            Text(words, STYLES.get(who, "")),
        )
    if len(calls) > MAX_ROWS:
        table.add_row(Text(f"and {len(calls) - MAX_ROWS} more", FAINT))
    return table


def _now(call: CallControl) -> "Text":
    from rich.text import Text  # noqa: PLC0415 (as above)

    state = call.conversation_state
    for side, does in (("caller", _STATES.get(state["user"])), ("agent", _STATES.get(state["agent"]))):
        if does:
            return Text(f"{side} {does}", STYLES[side])
    return Text("ending", ALERT) if call.ended else Text("quiet", FAINT)


def _last_words(call: CallControl) -> tuple[str, str]:
    """Return the side that spoke last, and its words."""
    history = call.history
    if not history:
        return "", ""
    role, text = str(history[-1].get("role", "")), str(history[-1].get("text", ""))
    return "caller" if role == "user" else "agent", printable(text[-_MAX_WORDS_CHARACTERS:])

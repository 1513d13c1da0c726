"""Commands ``patter-trio calls list``, ``show``, ``export`` and ``delete``: the call log on the command line."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from patter_trio.abc import CallQuery, CallSummary
from patter_trio.call_log.export import export_as
from patter_trio.call_log.options import CallLog, checked_log
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.cli.command_line import LOG_OPTION, Once, add_log_options
from patter_trio.cli.terminal import console_for, printable
from patter_trio.errors import ConfigurationError
from patter_trio.events.payloads import OUTCOMES
from patter_trio.phone_numbers import is_number, mask_number

if TYPE_CHECKING:
    from patter_trio.call_log.archive import LoggedCalls

NOTHING_EXIT_STATUS: Final = 1
"""Exit status if no call was found, or the answer to the question was no."""
# Judged: a screen or two.
DEFAULT_LINES: Final = 50
"""Most calls that are listed by default."""
_COLUMNS: Final = ("call", "began", "number", "s", "turns", "p50 ms", "outcome", "USD", "first words")
_RIGHT: Final = frozenset({"s", "turns", "p50 ms", "USD"})
_EPILOG: Final = """
The log is the one of `persist=True`: patter.db in the folder PATTER_LOG_DIR, or in ./calls. --log names another one.

  patter-trio calls list --text "open sunday" --since 2026-01-31      which calls were about that
  patter-trio calls list --outcome failed --log postgresql://me@db/calls
  patter-trio calls show CA123                                        one call: words, turns, tools, cost
  patter-trio calls export --format csv -o calls.csv --min-cost 0.5
  patter-trio calls delete CA123 CA124                                also their recordings, after a yes
  patter-trio calls delete --older-than 30 --yes                      in days

Exit status: 0 success; 1 no call was found, or the answer was no; 2 a mistake in the command, or the log cannot be
read.
"""


def add_parser(commands: Any) -> None:
    """Add the commands to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calls",
        help="list, show, export or delete logged calls",
        description="Read the call log that Patter(persist=...) writes, also while it is written.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = actions.add_parser("list", help="list calls, newest first", description="List calls, newest first.")
    show = actions.add_parser("show", help="show one call", description="Show one call: words, turns, tools, cost.")
    export = actions.add_parser(
        "export", help="write calls as JSON or CSV", description="Write all calls that are asked for, newest first."
    )
    delete = actions.add_parser(
        "delete",
        help="delete calls with their recordings",
        description="Delete calls by id, number or age, with their recordings. It asks before; exit status 1: no.",
    )
    for command, run in ((listing, run_list), (show, run_show), (export, run_export), (delete, run_delete)):
        add_log_options(command, "warning")
        command.add_argument(
            LOG_OPTION,
            action=Once,
            default="",
            metavar="PLACE",
            help="file, folder or URL of the log (default: see above)",
        )
        command.set_defaults(command=run)
    for command in (listing, export):
        _add_query(command)
    listing.add_argument(
        "--limit", action=Once, type=int, default=DEFAULT_LINES, help="most calls to list (default: %(default)s)"
    )
    listing.add_argument("--numbers", action="store_true", help="show whole phone numbers")
    show.add_argument("call_id", metavar="CALL_ID", help="the id, as list shows it")
    show.add_argument("--json", action="store_true", help="as JSON, with the events")
    export.add_argument("--format", action=Once, choices=("json", "csv"), default="json", help="(default: %(default)s)")
    export.add_argument("-o", "--output", action=Once, type=Path, help="the file to write (default: standard output)")
    delete.add_argument("call_ids", metavar="CALL_ID", nargs="*", default=[], help="calls to delete")
    delete.add_argument("--number", action=Once, default="", help="delete all calls from and to this number, E.164")
    delete.add_argument("--older-than", action=Once, type=float, metavar="DAYS", help="delete calls older than that")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _add_query(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text", action=Once, default="", help="words that were said in the call, in any order")
    command.add_argument("--number", action=Once, default="", help="a part of either number")
    command.add_argument(
        "--outcome",
        action=Once,
        default="",
        choices=OUTCOMES,
        metavar="OUTCOME",
        help=f"the outcome: {', '.join(OUTCOMES)}",
    )
    for name, what in (("--since", "from this time on"), ("--until", "before this time")):
        command.add_argument(
            name, action=Once, type=_time, metavar="TIME", help=f"calls that began {what}: ISO 8601, UTC by default"
        )
    command.add_argument("--min-cost", action=Once, type=float, metavar="USD", help="calls that cost at least this")
    command.add_argument(
        "--min-duration", action=Once, type=float, metavar="SECONDS", help="calls that lasted at least this long"
    )


def _time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be ISO 8601, such as 2026-01-31 or 2026-01-31T09:30, got {text!r}"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _query(options: argparse.Namespace, limit: int = DEFAULT_LINES, cursor: str = "") -> CallQuery:
    return CallQuery(
        text=options.text,
        number=options.number,
        outcome=options.outcome,
        since=options.since,
        until=options.until,
        min_cost_usd=options.min_cost,
        min_duration_s=options.min_duration,
        limit=limit,
        cursor=cursor,
    )


def _archive(options: argparse.Namespace) -> "LoggedCalls":
    log = checked_log(options.log or CallLog())
    if log is None:
        raise ConfigurationError("--log must be a file, a folder or a URL")
    return PhoneLog(log).archive


# The commands ---------------------------------------------------------------------------------------------------------
def run_list(options: argparse.Namespace) -> int:
    """List calls; return 0, or 1 if there is not one."""
    if options.limit < 1:
        raise ConfigurationError(f"--limit must be at least 1, got {options.limit}")
    calls, is_more = trio.run(_found, _archive(options), options)
    _print_table(_COLUMNS, [_row(call, whole=options.numbers) for call in calls])
    if is_more:
        print(f"These are the newest {len(calls)}; --limit shows more.")
    if not calls:
        print("No call was found.")
    return 0 if calls else NOTHING_EXIT_STATUS


async def _found(archive: "LoggedCalls", options: argparse.Namespace) -> tuple[list[CallSummary], bool]:
    calls: list[CallSummary] = []
    cursor = ""
    while len(calls) < options.limit:
        # 500: the most that the archive gives at once (call_log/reader.py).
        page = await archive.find(_query(options, min(options.limit - len(calls), 500), cursor))
        calls += page.calls
        cursor = page.next
        if not cursor:
            break
    return calls, bool(cursor)


def _row(call: CallSummary, *, whole: bool) -> tuple[str, ...]:
    number = call.caller if call.direction == "inbound" else call.callee
    return (
        call.call_id,
        datetime.fromtimestamp(call.started_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        ("from " if call.direction == "inbound" else "to ") + (number if whole or not number else mask_number(number)),
        f"{call.duration_s:.0f}",
        str(call.turns),
        "" if call.answer_p50_ms is None else f"{call.answer_p50_ms:.0f}",
        call.outcome or "(not ended)",
        "" if call.cost_usd is None else f"{call.cost_usd:.4f}",
        call.first_words,
    )


def run_show(options: argparse.Namespace) -> int:
    """Show one call; return 0, or 1 if it is unknown."""
    call, events = trio.run(_whole, _archive(options), options.call_id)
    if call is None:
        print(_unknown(options.call_id), file=sys.stderr)
        return NOTHING_EXIT_STATUS
    if options.json:
        # In ASCII, which escapes what could command a terminal.
        print(json.dumps({**call, "events": events}, ensure_ascii=True, indent=2))
        return 0
    for line in _lines_of(call):
        print(printable(line))
    return 0


async def _whole(archive: "LoggedCalls", call_id: str) -> tuple[dict[str, Any] | None, Sequence[Any]]:
    return await archive.get(call_id), await archive.events(call_id)


def _lines_of(call: Mapping[str, Any]) -> Iterator[str]:
    began = call["started_at"]
    yield f"{call['call_id']}  {call['direction']}  {call['caller']} -> {call['callee']}  {call['provider']}"
    yield (
        f"began {datetime.fromtimestamp(began, UTC).isoformat(timespec='seconds')}, {call['duration_s']:.1f} s, "
        f"{call['outcome'] or 'not ended'}{f' ({error})' if (error := call['error']) else ''}"
    )
    metrics = call["metrics"] or {}
    if cost := metrics.get("cost"):
        parts = ", ".join(f"{name} {cost.get(name) or 0.0:.4f}" for name in ("stt", "llm", "tts", "telephony"))
        yield f"cost {cost.get('total') or 0.0:.4f} USD: {parts}"
    yield ""
    for entry in call["transcript"]:
        who = "caller" if entry["role"] == "user" else "agent"
        yield f"{entry['timestamp'] - began:8.1f} s  {who:<6}  {entry['text']}"
    for turn in metrics.get("turns", ()):
        if (total := (turn.get("latency") or {}).get("total_ms")) is not None:
            cut = ", interrupted" if turn.get("interrupted") else ""
            yield f"turn {turn['turn_index']}: answered after {total:.0f} ms{cut}"
    for tool in call["tool_calls"]:
        yield f"tool {tool.get('name')}: {json.dumps(tool.get('arguments'))} {tool.get('error') or ''}".rstrip()


def run_export(options: argparse.Namespace) -> int:
    """Write calls; return 0, or 1 if there is not one."""
    archive = _archive(options)
    if options.output is None:
        return trio.run(_export, archive, options, sys.stdout.write)
    try:
        # newline="": CSV has line ends of its own.
        with options.output.open("w", encoding="utf-8", newline="") as file:
            return trio.run(_export, archive, options, file.write)
    except OSError as error:
        raise ConfigurationError(
            f"--output must be a file that can be written, got {options.output}: {error}"
        ) from error


async def _export(archive: "LoggedCalls", options: argparse.Namespace, write: Callable[[str], object]) -> int:
    export, count = export_as(options.format), 0
    write(export.head)
    async with archive.export(_query(options)) as calls:
        async for call in calls:
            write(export.piece(call))
            count += 1
    write(export.tail)
    return 0 if count else NOTHING_EXIT_STATUS


def run_delete(options: argparse.Namespace) -> int:
    """Delete calls; return 0, or 1 if nothing was deleted."""
    given = [bool(options.call_ids), bool(options.number), options.older_than is not None]
    if sum(given) != 1:
        raise ConfigurationError("give one of: ids of calls, --number, --older-than")
    if options.number and not is_number(options.number):
        raise ConfigurationError(f"--number must be E.164 to delete by it, got {options.number!r}")
    if options.older_than is not None and not options.older_than > 0:
        raise ConfigurationError(f"--older-than must be a number of days above 0, got {options.older_than:g}")
    archive = _archive(options)
    if not options.yes and not _agreed(options):
        print("Nothing was deleted.")
        return NOTHING_EXIT_STATUS
    count = trio.run(partial(_delete, archive, options))
    print(f"Deleted calls: {count}.")
    return 0 if count else NOTHING_EXIT_STATUS


def _agreed(options: argparse.Namespace) -> bool:
    if options.call_ids:
        which = f"call {options.call_ids[0]}" if len(options.call_ids) == 1 else f"{len(options.call_ids)} calls"
    elif options.number:
        which = f"all calls from and to {options.number}"
    else:
        which = f"all calls older than {options.older_than:g} days"
    try:
        # An id may have characters that command a terminal.
        return input(f"Delete {printable(which)}, with all recordings? [y/N] ").strip().lower() in ("y", "yes")
    # A script without a terminal, and without --yes.
    except EOFError:
        return False


async def _delete(archive: "LoggedCalls", options: argparse.Namespace) -> int:
    if options.number:
        return await archive.delete_number(options.number)
    if options.older_than is not None:
        return await archive.delete_before(time.time() - options.older_than * 86_400)
    count = 0
    for call_id in options.call_ids:
        if await archive.delete(call_id):
            count += 1
        else:
            print(_unknown(call_id), file=sys.stderr)
    return count


def _unknown(call_id: str) -> str:
    return f"No call {printable(call_id)} is in the log."


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: on a terminal by rich, else with tabs between cells, for other programs."""
    # What callers say, and what carriers name, must not command a terminal.
    safe = [[printable(cell) for cell in row] for row in rows]
    console = console_for(sys.stdout)
    if console is None:
        for row in (columns, *safe):
            print("\t".join(row))
        return
    from rich.table import Table  # noqa: PLC0415 (only on a terminal: the import takes time)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=name != columns[-1])
    for row in safe:
        table.add_row(*row)
    console.print(table)

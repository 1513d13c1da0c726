"""The dashboard among the windows of a server."""

from collections.abc import Callable

import attrs

from patter_trio.dashboard.log_lines import LogLines
from patter_trio.dashboard.recent_calls import RecentCalls
from patter_trio.server.windows import Windows


def with_dashboard(windows: Windows, lines: LogLines, deleted: Callable[[str], None], *, has_log: bool) -> Windows:
    """Return windows with the dashboard.

    Args:
        windows: the windows without it.
        lines: keeps the lines of the program's log by call, from when the server runs.
        deleted: called with the id of a call that a client has deleted.
        has_log: True if ``windows`` have the API of past calls from a call log; False: the dashboard adds it, with the
            newest calls in memory, for as long as the server runs.
    """
    # Starlette takes 0.1 s to import, and only servers need it.
    from patter_trio.dashboard.routes import dashboard_routes  # noqa: PLC0415 (see above)
    from patter_trio.pages.assets import shared_routes  # noqa: PLC0415 (see above)
    from patter_trio.server.archive_api import archive_routes  # noqa: PLC0415 (see above)

    pages = [*shared_routes(), *dashboard_routes(lines, has_log=has_log)]
    windows = attrs.evolve(windows, served=lines.collecting)
    if has_log:
        return attrs.evolve(windows, routes=[*windows.routes, *pages])
    memory = RecentCalls()
    return attrs.evolve(
        windows,
        routes=[*windows.routes, *archive_routes(memory, deleted), *pages],
        record_sinks=[*windows.record_sinks, memory],
    )

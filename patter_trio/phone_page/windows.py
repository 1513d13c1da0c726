"""The browser phone among the windows of a server."""

import attrs

from patter_trio.abc import HoldPageText
from patter_trio.phone_page.live_timelines import LiveTimelines
from patter_trio.phone_page.page import PhonePage
from patter_trio.phone_page.text_calls import TextCallsOfPages
from patter_trio.server.options import ServeOptions
from patter_trio.server.page_calls import AnnouncedPageCalls


def with_browser_phone(
    options: ServeOptions, page: PhonePage | bool, hold_text: HoldPageText, timelines: LiveTimelines
) -> ServeOptions:
    """Return options with the routes of the browser phone, and what announces and draws its calls.

    Args:
        options: the options without it.
        page: what the page shows about the program; True: nothing.
        hold_text: holds a call in text.
        timelines: the pictures of its calls.
    """
    # Starlette takes 0.1 s to import, and only servers need it.
    from patter_trio.pages.assets import shared_routes  # noqa: PLC0415 (see above)
    from patter_trio.phone_page.routes import phone_routes  # noqa: PLC0415 (see above)

    shown = page if isinstance(page, PhonePage) else PhonePage()
    calls, texts = AnnouncedPageCalls(shown.number), TextCallsOfPages(hold_text)
    return attrs.evolve(
        options,
        routes=[*options.routes, *shared_routes(), *phone_routes(shown, calls, texts, timelines)],
        record_sinks=[*options.record_sinks, timelines],
        page_calls=calls,
    )

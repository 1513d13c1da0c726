"""The browser phone as a carrier: a page of this server announces its calls and opens their media streams."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NoReturn

import attrs

from patter_trio.abc import CallInfo, Carrier, CarrierReport, CarrierRequest, StreamCodec
from patter_trio.errors import CallEnded, WireError
from patter_trio.wire.browser import BrowserCodec


@attrs.frozen
class BrowserPhone(Carrier):
    """The carrier of calls from our own page.

    It has no webhooks: a request of the page asks for a ticket, which opens the stream of one call. It can neither
    place nor transfer calls.
    """

    name: ClassVar[str] = "browser"
    protocol: ClassVar[str] = "browser"
    content_type: ClassVar[str] = "text/plain"
    # The server asks for another stream after a loss, and learns from the answer that the call is over.
    acts_on_request: ClassVar[bool] = True
    streams_from_pages: ClassVar[bool] = True

    def is_signed(self, request: CarrierRequest) -> bool:  # noqa: ARG002 (of the base class)
        """Return False: a page has no key to sign with; its ticket and its origin stand for it."""
        return False

    def is_authentic(self, request: CarrierRequest) -> bool:  # noqa: ARG002 (of the base class)
        """Return False: nothing is signed."""
        return False

    def read(self, request: CarrierRequest) -> CarrierReport | None:  # noqa: ARG002 (of the base class)
        """Refuse a webhook, because a page sends none: a WireError."""
        raise WireError("the browser phone has no webhooks")

    def connect(self, url: str, parameters: Mapping[str, str]) -> str:  # noqa: ARG002 (of the base class)
        """Return an empty string: the page opens the stream by itself."""
        return ""

    def reject(self) -> str:
        """Return an empty string: the page learns from the status of its request that the line is busy."""
        return ""

    async def reconnect(self, call: CallInfo, url: str, parameters: Mapping[str, str]) -> NoReturn:  # noqa: ARG002 (of the base class)
        """Report that the call is over: a page that has closed its stream is closed itself, or is loaded anew.

        Raises:
            CallEnded: always.
        """
        raise CallEnded(f"call {call.call_id}: the page is closed")

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """Do nothing: the end of a stream ends the page's call."""

    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> StreamCodec:  # noqa: ARG002 (of the base class)
        """Return a codec for one media stream."""
        return BrowserCodec()

"""The carrier's side of a call: its media stream."""

import attrs

from patter_trio.abc import CallInfo, StreamCodec, StreamStarted
from patter_trio.net.websocket import WebSocket


@attrs.frozen
class MediaLeg:
    """A media stream that belongs to an announced call: proven, started and not yet answered."""

    socket: WebSocket
    codec: StreamCodec
    started: StreamStarted
    info: CallInfo

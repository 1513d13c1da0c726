"""The recorders of one server's calls: files of our own, and the carrier."""

import logging
from collections.abc import Callable
from pathlib import Path

import trio

from patter_trio.abc import CallInfo, Carrier
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.recorded import NOT_RECORDED, Recorded
from patter_trio.call.recording import Recordings
from patter_trio.errors import PatterError
from patter_trio.server.carrier_border import carrier_border
from patter_trio.server.options import Seams, ServeOptions

# Judged: longer than the 4 s for the head of an answer and as much for its body (``carriers/rest.py``).
RECORD_TIMEOUT_S = 10.0
"""Seconds for the request that makes the carrier record."""

_log = logging.getLogger("patter_trio.call")


class Recorders:
    """The recorders of one server's calls.

    Args:
        options: what is to record.
        seams: replaces the files, for tests.
        nursery: the server's, which outlives the calls.
        callback_url: where the carrier reports a recording.
        on_file: called with a call's id and the file of its recording.
    """

    def __init__(
        self,
        options: ServeOptions,
        seams: Seams,
        nursery: trio.Nursery,
        callback_url: str,
        on_file: Callable[[str, Path], None],
    ) -> None:
        self._carrier: Carrier | None = options.carrier if options.recording else None
        self._callback_url = callback_url
        self._nursery = nursery
        self._files: Recordings | None = None
        if options.record_to is not None:
            self._files = Recordings(options.record_to, seams.open_recording, on_file)
            nursery.start_soon(self._files.run)

    def __repr__(self) -> str:
        return f"<Recorders {self._files!r}{'' if self._carrier is None else f', {self._carrier.name}'}>"

    def of_call(self, info: CallInfo, media: MediaClock) -> Recorded:
        """Return what records a call whose media begins now."""
        if self._files is None and self._carrier is None:
            return NOT_RECORDED
        carrier = self._carrier
        return Recorded(
            info.call_id,
            None if self._files is None else self._files.open(info.call_id, media),
            None if carrier is None else lambda: self._nursery.start_soon(self._ask, carrier, info),
        )

    async def _ask(self, carrier: Carrier, info: CallInfo) -> None:
        """Make the carrier record a call."""
        try:
            with trio.fail_after(RECORD_TIMEOUT_S), carrier_border(carrier, info.call_id):
                recording_id = await carrier.start_recording(info, self._callback_url)
        # The call goes on: the agent is worth more to a caller than the recording.
        except trio.TooSlowError:
            _log.warning(
                "call %s: %s did not say within %g s that it records", info.call_id, carrier.name, RECORD_TIMEOUT_S
            )
        except PatterError as error:
            _log.warning("call %s: %s does not record: %s", info.call_id, carrier.name, error)
        else:
            _log.info(
                "call %s: %s records it%s", info.call_id, carrier.name, f" as {recording_id}" if recording_id else ""
            )

    def close(self) -> None:
        """Write the rest, because all calls are over."""
        if self._files is not None:
            self._files.close()

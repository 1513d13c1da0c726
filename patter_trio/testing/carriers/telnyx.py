"""A simulated Telnyx: its webhooks, its commands and its messages on a simulated line.

A call is announced by a webhook whose answer says nothing; the agent's server answers the call by a command to the REST
interface (:func:`~patter_trio.testing.carriers.rest.serving_api`), and has to end it by another.
"""

import base64
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Unpack
from urllib.parse import urlencode

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patter_trio.errors import CallEnded
from patter_trio.testing.carriers import telnyx_messages as messages
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.news import TELNYX_NEWS
from patter_trio.testing.carriers.protocol import (
    WEBHOOK_TIMEOUT_S,
    BadAnswer,
    CallFacts,
    CallRefused,
    CarrierProtocol,
    FromAgent,
    Line,
    LineOptions,
    RESTAnswer,
    RESTRequest,
    StreamOrder,
    Webhook,
    checked_stream_url,
    parted,
)
from patter_trio.testing.carriers.rest import read_json
from patter_trio.testing.carriers.webhook_post import Connect

_HANGUP: Final[Mapping[str, tuple[str, str]]] = {
    # hangup_cause, hangup_source
    "caller_hung_up": ("normal_clearing", "caller"),
    "agent_hung_up": ("normal_clearing", "callee"),
    "transferred": ("normal_clearing", "unknown"),
    "dropped": ("unspecified", "unknown"),
}
"""How Telnyx reports the end of a call."""
# Longer than the agent's server waits for another stream; then it hangs up.
SILENCE_TIMEOUT_S: Final = 15.0
"""Seconds without a stream after which the simulation ends a call that nobody has ended."""
# Judged: a server that has the call asks for another stream at once.
FAILURE_REPORT_S: Final = 1.0
"""Seconds without a stream after which the simulation reports that the first one could not be opened."""
_RECORDS: Final = frozenset((channels, kind) for channels in ("single", "dual") for kind in ("wav", "mp3"))
"""The channels and formats of a recording."""
_SUCCESS: Final = RESTAnswer(200, {"data": {"result": "ok"}})


class TelnyxProtocol(CarrierProtocol):
    """Telnyx's side of one call.

    Args:
        facts: who calls whom.
        key: signs the webhooks.
        api_key: the key of the account, as in the carrier object of the program under test.
        unix_time: returns the time of signatures.
    """

    name: ClassVar[str] = "telnyx"
    opening_messages: ClassVar[int] = 2  # connected, start
    closing_ends_call: ClassVar[bool] = False
    starting_command: ClassVar[str] = "answer"
    """The command that starts the stream."""

    def __init__(self, facts: CallFacts, key: Ed25519PrivateKey, api_key: str, unix_time: Callable[[], float]) -> None:
        # Ids of the same form as Telnyx's, the same in each run.
        self._session_id, self._leg_id, stream_id = (
            str(uuid.uuid5(uuid.NAMESPACE_URL, f"{facts.call_id}/{part}")) for part in ("session", "leg", "stream")
        )
        super().__init__(facts, stream_id)
        self._was_served = False
        """True once the agent's server has sent something over a stream."""
        self._key = key
        self._authorization = f"Bearer {api_key}"
        self._unix_time = unix_time
        self._url = ""
        self._events = 0
        self._sequence = 0
        self._state: str | None = None
        self._order: StreamOrder | None = None
        self._refusal: CallRefused | None = None
        self._decided = trio.Event()
        self._streams = 1
        self._restarted = trio.Event()
        self._token = ""
        self._is_over = False
        self._carried_out: set[str] = set()
        self._records: Mapping[str, Any] | None = None
        """The command that records the call."""

    # The setup of a call ----------------------------------------------------------------------------------------------
    async def ask(self, line: Line) -> StreamOrder:
        """Announce the call, and wait for the command that answers it.

        Raises:
            CallRefused: the webhook was not taken, or no command came, or one that refuses the call.
        """
        facts = self.facts
        query = f"?{urlencode(facts.custom_params)}" if facts.custom_params else ""
        self._url = f"{line.public_url}/webhooks/telnyx/voice{query}"
        self._public_url = line.public_url
        answer = await line.post(self._event("call.initiated", {"direction": "incoming", "state": "parked"}))
        if not 200 <= answer.status < 300:  # noqa: PLR2004 (HTTP's successes)
            raise CallRefused("failed", f"the webhook must be answered with 2xx, got {answer.status}")
        with trio.move_on_after(WEBHOOK_TIMEOUT_S):
            # The command comes over REST, before or behind the answer to the webhook.
            await self._decided.wait()
        return self._decision()

    def _decision(self) -> StreamOrder:
        """Return what the commands so far say about the stream.

        Raises:
            CallRefused: they refuse the call, or say nothing about a stream.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._order is None:
            raise CallRefused("failed", f"no command answered the call within {WEBHOOK_TIMEOUT_S:g} s")
        return self._order

    async def ask_again(self, line: Line) -> StreamOrder | None:
        """Wait in silence for a command that starts another stream; what ends the call cancels this.

        A first stream that broke before the agent's server sent anything is reported: the server may not know of it.
        """
        if not self._was_served:
            with trio.move_on_after(FAILURE_REPORT_S):
                await self._restarted.wait()
            if not self._restarted.is_set():
                failure = {
                    "stream_id": self.stream_id,
                    "stream_type": "websocket",
                    "failure_reason": "connection_failed",
                }
                await line.post(self._event("streaming.failed", failure))
        with trio.move_on_after(SILENCE_TIMEOUT_S):
            await self._restarted.wait()
            # Anew, because the stream that comes now may break as well.
            self._restarted = trio.Event()
            return self._order
        return None

    def upgrade_headers(self, order: StreamOrder) -> Mapping[str, str]:  # noqa: ARG002 (of the interface)
        """Return the token of the command: Telnyx does not sign upgrades."""
        return {"x-telnyx-streaming-auth-token": self._token} if self._token else {}

    # Messages to the agent's server -----------------------------------------------------------------------------------
    def opening(self, order: StreamOrder) -> Sequence[str]:
        """Return connected and start."""
        start = {
            "user_id": "00000000-0000-4000-8000-000000000001",
            "call_control_id": self.call_id,
            "call_session_id": self._session_id,
            "from": self.facts.caller,
            "to": self.facts.callee,
            "tags": [],
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        }
        if self._state is not None:
            start["client_state"] = self._state
        if order.parameters:
            start["custom_parameters"] = dict(order.parameters)
        return _text(event="connected", version="1.0.0"), self._message("start", start=start)

    def media(self, frame: int, audio: bytes) -> str:
        """Return a media message."""
        payload = base64.b64encode(audio).decode()
        body = {"track": "inbound", "chunk": str(frame), "timestamp": str((frame - 1) * 20), "payload": payload}
        return self._message("media", media=body)

    def key(self, digit: str) -> str:
        """Return a dtmf message."""
        return self._message("dtmf", occurred_at=self._occurred_at(), dtmf={"digit": digit})

    def played(self, mark: str) -> str:
        """Return a mark message."""
        return self._message("mark", mark={"name": mark})

    def stopped(self) -> str:
        """Return a stop message."""
        return self._message("stop", stop={"user_id": "0" * 8, "call_control_id": self.call_id})

    def read(self, message: str | bytes) -> FromAgent:
        """Return a decoded message of the agent's server.

        Raises:
            BadMessage: Telnyx would answer it with an error.
        """
        self._was_served = True
        return messages.read_message(message, self.stream_id)

    def _message(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        return _text(event=event, sequence_number=str(self._sequence), stream_id=self.stream_id, **fields)

    # Webhooks ---------------------------------------------------------------------------------------------------------
    def key_report(self, digit: str) -> Webhook:
        """Return the webhook about a key: Telnyx reports each there, too."""
        return self._event("call.dtmf.received", {"digit": digit})

    def opened_reports(self) -> Sequence[Webhook]:
        """Return the webhooks that the call was answered and streams."""
        stream = {"stream_id": self.stream_id, "stream_type": "websocket"}
        return self._event("call.answered", {"state": "answered"}), self._event("streaming.started", stream)

    def ended_reports(self, how: str) -> Sequence[Webhook]:
        """Return the webhooks that stream and call are over."""
        self._is_over = True
        cause, source = _HANGUP[how]
        stream = {"stream_id": self.stream_id, "stream_type": "websocket"}
        hangup = {"state": "hangup", "hangup_cause": cause, "hangup_source": source, "sip_hangup_cause": "200"}
        reports = (self._event("streaming.stopped", stream), self._event("call.hangup", hangup))
        return reports if self._records is None else (*reports, self._saved(self._records))

    def _saved(self, asked: Mapping[str, Any]) -> Webhook:
        """Return the report of a recording, which names the call by the command's client state alone."""
        kind = asked["format"]
        recording = {
            "recording_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.call_id}/recording")),
            "channels": asked["channels"],
            "recording_urls": {kind: f"https://telnyx.test/{self._leg_id}.{kind}"},
            "recording_started_at": self._occurred_at(ago=self._lasted),
            "recording_ended_at": self._occurred_at(),
            "client_state": asked.get("client_state"),
        }
        return self._event("call.recording.saved", recording, names_call=False)

    def news(self, public_url: str, what: str, call_id: str = "") -> Webhook:  # noqa: ARG002 (all go to the one URL)
        """Return an event with news about a call."""
        event, fields = TELNYX_NEWS[what]
        return self._event(event, {"call_control_id": call_id or self.call_id, **fields})

    def _event(self, event_type: str, fields: Mapping[str, Any], *, names_call: bool = True) -> Webhook:
        self._events += 1
        payload = {
            **({"call_control_id": self.call_id} if names_call else {}),
            "call_leg_id": self._leg_id,
            "call_session_id": self._session_id,
            "connection_id": "1000000000000000001",
            "from": self.facts.caller,
            "to": self.facts.callee,
            "client_state": self._state,
            **fields,
        }
        data = {
            "event_type": event_type,
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.call_id}/{self._events}")),
            "occurred_at": self._occurred_at(),
            "record_type": "event",
            "payload": payload,
        }
        body = msgspec.json.encode({"data": data, "meta": {"attempt": 1, "delivered_to": self._url}})
        signed = messages.sign(self._key, int(self._unix_time()), body)
        return Webhook(self._url, body, {"Content-Type": "application/json", "User-Agent": "telnyx-webhooks", **signed})

    def _occurred_at(self, *, ago: float = 0.0) -> str:
        return datetime.fromtimestamp(self._unix_time() - ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # Commands ---------------------------------------------------------------------------------------------------------
    @property
    def api_path(self) -> str:
        """The path of the commands about this call."""
        return f"/calls/{self.call_id}/actions/"

    async def obey(self, line: Line, request: RESTRequest) -> RESTAnswer:
        """Carry out a command."""
        if request.headers.get("authorization") != self._authorization:
            return refusal(401, "10009", "Authentication failed")
        fields = read_json(request.body)
        if request.method != "POST" or fields is None:
            return refusal(400, "10015", "Bad Request", "the body of a command must be a JSON object")
        if self._is_over:
            return refusal(422, "90018", "Call has already ended")
        # Telnyx ignores a command whose id it knows.
        command = str(fields.get("command_id", ""))
        if command and command in self._carried_out:
            return _SUCCESS
        try:
            await self._carry_out(line, request.path, fields)
        except BadAnswer as error:
            return refusal(422, "10015", "Invalid parameters", str(error))
        except CallEnded as error:
            return refusal(422, "90018", "Call has already ended", str(error))
        self._carried_out.add(command)
        return _SUCCESS

    async def _carry_out(self, line: Line, command: str, fields: Mapping[str, Any]) -> None:
        match command:
            case "answer" | "reject" if self._decided.is_set():
                raise BadAnswer("the call is answered already")
            case self.starting_command if not self._decided.is_set():
                self._answer(fields)
            case "record_start" if self._order is not None:
                if (fields.get("channels"), fields.get("format")) not in _RECORDS:
                    raise BadAnswer(f"channels and format must be single or dual, and wav or mp3, got {fields}")
                self._records = fields
            case "reject" if self.facts.direction == "inbound":
                cause = str(fields.get("cause"))
                if cause not in messages.REJECT_CAUSES:
                    raise BadAnswer(f"cause must be one of {', '.join(messages.REJECT_CAUSES)}, got {cause!r}")
                outcome = messages.REJECT_CAUSES[cause]
                self._refusal = CallRefused(outcome, f"the server refused the call: {outcome}")
                self._is_over = True
                self._decided.set()
            case "hangup" if not self._decided.is_set():
                self._refusal = CallRefused("rejected", "the server hung up before it answered")
                self._is_over = True
                self._decided.set()
            case "hangup":
                line.agent_hangs_up()
            # Telnyx may have noticed the end of the stream before.
            case "streaming_stop":
                pass
            case "streaming_start" if self._decided.is_set():
                self._stream_again(fields)
            case "transfer":
                to = fields.get("to")
                if not isinstance(to, str) or not to.startswith(("+", "sip:")):
                    raise BadAnswer(f"to must be a number in E.164 or a SIP address, got {to!r}")
                await line.transfer(to)
            case "send_dtmf":
                digits = fields.get("digits")
                if not isinstance(digits, str) or not digits or set(digits) - set("0123456789ABCD*#wW"):
                    raise BadAnswer(f"digits must be of 0-9, A-D, *, #, w and W, got {digits!r}")
                line.sound(digits)
            case _:
                raise BadAnswer(f"the simulation has no command {command!r}")

    def _answer(self, fields: Mapping[str, Any]) -> None:
        self._order = self._ordered(fields)
        # Without one, that of the command before stays.
        self._state = fields.get("client_state", self._state)
        self._decided.set()

    def _stream_again(self, fields: Mapping[str, Any]) -> None:
        self._order = self._ordered(fields)
        # Another stream, with an id and a sequence of its own.
        self._streams += 1
        self.stream_id: str = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.call_id}/stream/{self._streams}"))
        self._sequence = 0
        self._restarted.set()

    def _ordered(self, fields: Mapping[str, Any]) -> StreamOrder:
        url = messages.checked_stream_options(fields)
        self._token = str(fields.get("stream_auth_token", ""))
        given = fields.get("custom_parameters")
        parameters = {
            str(one["name"]): str(one["value"])
            for one in (given if isinstance(given, list) else [])
            if isinstance(one, dict) and {"name", "value"} <= one.keys()
        }
        return StreamOrder(checked_stream_url(url, public_url=self._public_url, may_have_query=True), parameters)


class SimulatedTelnyx(SimulatedCarrier):
    """One call through a simulated Telnyx.

    Args:
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        api_key: the key of the account, as in the carrier object of the program under test.
        signing_key: the Ed25519 key, 32 bytes, with which the carrier signs; its public key is that of the account.
        call_id: Telnyx's ``call_control_id`` of the call.
        unix_time: returns the time of signatures, in seconds.
        line: who calls whom, and what the network does; all of it may be left out.
    """

    def __init__(
        self,
        connect: Connect,
        public_url: str,
        *,
        api_key: str,
        signing_key: bytes,
        call_id: str = "v3:00000000000000000000000000000001",
        unix_time: Callable[[], float] = time.time,
        **line: Unpack[LineOptions],
    ) -> None:
        facts, network = parted(call_id, line)
        key = Ed25519PrivateKey.from_private_bytes(signing_key)
        super().__init__(
            connect,
            public_url,
            TelnyxProtocol(facts, key, api_key, unix_time),
            **network,
        )


def public_key_of(signing_key: bytes) -> str:
    """Return the public key to a signing key, as Telnyx's portal shows it."""
    return messages.public_key_of(Ed25519PrivateKey.from_private_bytes(signing_key))


def _text(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()


def refusal(status: int, code: str, title: str, detail: str = "") -> RESTAnswer:
    """Return a refusal in Telnyx's form."""
    return RESTAnswer(status, {"errors": [{"code": code, "title": title, "detail": detail or title}]})

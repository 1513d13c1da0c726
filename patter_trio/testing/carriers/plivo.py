"""A simulated Plivo: its webhooks, its signature and its messages on a simulated line."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Unpack
from urllib.parse import urlencode

from patter_trio.errors import CallEnded
from patter_trio.testing.carriers import plivo_messages as messages
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.news import PLIVO_NEWS
from patter_trio.testing.carriers.protocol import (
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
    refusing,
)
from patter_trio.testing.carriers.rest import basic_authorization, read_json
from patter_trio.testing.carriers.webhook_post import Connect

_HANGUP: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # CallStatus, HangupCauseName, HangupCauseCode, HangupSource
    "caller_hung_up": ("completed", "Normal Hangup", "4000", "Caller"),
    "agent_hung_up": ("completed", "End Of XML Instructions", "4010", "Plivo"),
    "transferred": ("completed", "Normal Hangup", "4000", "Callee"),
    "dropped": ("completed", "Lost Connection", "5000", "Plivo"),
}
"""How Plivo reports the end of a call."""
API_ID: Final = "00000000-0000-4000-8000-000000000000"


class PlivoProtocol(CarrierProtocol):
    """Plivo's side of one call.

    Args:
        facts: who calls whom.
        auth_id: the account, as in the carrier object of the program under test.
        auth_token: the account's secret, with which requests are signed.
    """

    name: ClassVar[str] = "plivo"
    opening_messages: ClassVar[int] = 1  # start
    # A confirmation is documented only for audio that was really played.
    cleared_marks_return: ClassVar[bool] = False
    empty_marks_return: ClassVar[bool] = False

    def __init__(self, facts: CallFacts, auth_id: str, auth_token: str) -> None:
        super().__init__(facts, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{facts.call_id}/stream")))
        self._auth_id = auth_id
        self._auth_token = auth_token
        self._authorization = basic_authorization(auth_id, auth_token)
        self._public_url = ""
        self._sequence = 0
        self._nonces = 0
        self._extra_headers = ""
        self._redirect_url = ""
        self._streams = 1
        self._is_over = False
        self._callback_url = ""
        """Where the recording of the call is reported; empty: it is not recorded."""

    # The setup of a call ----------------------------------------------------------------------------------------------
    async def ask(self, line: Line) -> StreamOrder:
        """Ask the answer URL how to handle the call.

        Raises:
            CallRefused: it refuses, or does not answer in Plivo's XML.
        """
        self._public_url = line.public_url
        with refusing():
            xml = await self._fetch(line, self._answer_url(line.public_url), Event="StartApp")
        if isinstance(xml, messages.DialXML):
            raise CallRefused("transferred", f"the server sent the caller to {xml.to}")
        if isinstance(xml, messages.HangupXML):
            self._is_over = True
            raise CallRefused(xml.outcome, f"the server refused the call: {xml.outcome}")
        return self._order(xml)

    def _order(self, xml: messages.StreamXML) -> StreamOrder:
        self._extra_headers, self._redirect_url = xml.extra_headers, xml.redirect
        # Documented as avoided, so refused: no query in the address.
        with refusing():
            return StreamOrder(checked_stream_url(xml.url, public_url=self._public_url))

    async def ask_again(self, line: Line) -> StreamOrder | None:
        """Follow the element behind ``<Stream>``; without one, the call is over.

        Raises:
            CallRefused: the URL does not answer, or not in Plivo's XML.
        """
        if not self._redirect_url:
            return None
        with refusing():
            xml = await self._fetch(line, self._redirect_url, CallStatus="in-progress", Event="Redirect")
        if not isinstance(xml, messages.StreamXML):
            return None
        # Another stream, with an id and a sequence of its own.
        self._streams += 1
        self.stream_id: str = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.call_id}/stream/{self._streams}"))
        self._sequence = 0
        return self._order(xml)

    def _answer_url(self, public_url: str) -> str:
        facts = self.facts
        query = f"?{urlencode(facts.custom_params)}" if facts.custom_params else ""
        return f"{public_url}/webhooks/plivo/voice{query}"

    async def _fetch(
        self, line: Line, url: str, **fields: str
    ) -> messages.StreamXML | messages.HangupXML | messages.DialXML:
        # A call that the account has placed is answered first, and then asks what to do.
        status = "in-progress" if self.facts.direction == "outbound" else "ringing"
        answer = await line.post(self._webhook(url, **{"CallStatus": status, **fields}))
        if answer.status != 200:  # noqa: PLR2004 (HTTP's OK)
            raise BadAnswer(f"the answer URL answered {answer.status}")
        if not answer.content_type.startswith(("text/xml", "application/xml")):
            raise BadAnswer(f"the answer URL must answer with XML, got {answer.content_type!r}")
        return messages.read_xml(answer.body)

    def news(self, public_url: str, what: str, call_id: str = "") -> Webhook:
        """Return a webhook with news about a call."""
        kind, fields = PLIVO_NEWS[what]
        return self._webhook(f"{public_url}/webhooks/plivo/{kind}", **{**fields, "CallUUID": call_id or self.call_id})

    def _webhook(self, url: str, **fields: str) -> Webhook:
        facts = self.facts
        form = {
            "CallUUID": self.call_id,
            # Plivo leaves out the plus of E.164.
            "From": facts.caller.removeprefix("+"),
            "To": facts.callee.removeprefix("+"),
            "Direction": facts.direction,
            **fields,
        }
        self._nonces += 1
        # Counted, not random, so that each run is the same.
        nonce = f"{self._nonces:020d}"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Plivo-Signature-V3": messages.sign(self._auth_token, url, form, nonce),
            "X-Plivo-Signature-V3-Nonce": nonce,
        }
        return Webhook(url, urlencode(form).encode(), headers)

    def upgrade_headers(self, order: StreamOrder) -> Mapping[str, str]:  # noqa: ARG002 (of the interface)
        """Return no headers: whether Plivo signs upgrades is not documented."""
        return {}

    # Messages to the agent's server -----------------------------------------------------------------------------------
    def opening(self, order: StreamOrder) -> Sequence[str]:  # noqa: ARG002 (of the interface)
        """Return start; the stream's id is within it."""
        start = {
            "callId": self.call_id,
            "streamId": self.stream_id,
            "accountId": self._auth_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": messages.CONTENT_TYPE, "sampleRate": 8000},
        }
        return (self._message("start", start=start, **self._extra()),)

    def media(self, frame: int, audio: bytes) -> str:
        """Return a media message."""
        payload = base64.b64encode(audio).decode()
        body = {"track": "inbound", "timestamp": str((frame - 1) * 20), "chunk": frame, "payload": payload}
        return self._streamed("media", media=body, **self._extra())

    def key(self, digit: str) -> str:
        """Return a dtmf message."""
        return self._streamed("dtmf", dtmf={"track": "inbound", "digit": digit, "timestamp": "0"})

    def played(self, mark: str) -> str:
        """Return a playedStream message."""
        return self._streamed("playedStream", name=mark)

    def cleared(self) -> str:
        """Return a clearedAudio message."""
        return self._streamed("clearedAudio")

    def stopped(self) -> None:
        """Return nothing: the stream ends with its socket."""
        return

    def read(self, message: str | bytes) -> FromAgent:
        """Return a decoded message of the agent's server.

        Raises:
            BadMessage: Plivo would not accept the message.
        """
        return messages.read_message(message, self.stream_id)

    def _extra(self) -> dict[str, str]:
        return {"extra_headers": self._extra_headers} if self._extra_headers else {}

    def _streamed(self, event: str, **fields: Any) -> str:
        return self._message(event, streamId=self.stream_id, **fields)

    def _message(self, event: str, **fields: Any) -> str:
        self._sequence += 1
        return messages.text(event=event, sequenceNumber=self._sequence, **fields)

    # Beside the stream ------------------------------------------------------------------------------------------------
    def ended_reports(self, how: str) -> Sequence[Webhook]:
        """Return the webhooks of the hang-up, and of the recording."""
        reports = [self._hung_up(f"{self._public_url}/webhooks/plivo/status", *_HANGUP[how])]
        if self._callback_url:
            recording = {
                "RecordUrl": f"https://plivo.test/{self._recording_id}.wav",
                "RecordingID": self._recording_id,
                "RecordingDuration": str(round(self._lasted)),
            }
            reports.append(self._webhook(self._callback_url, **recording))
        return reports

    @property
    def _recording_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.call_id}/recording"))

    def _hung_up(self, url: str, status: str, name: str, code: str, source: str) -> Webhook:
        """Return the webhook of the call's end."""
        self._is_over = True
        fields = {
            "Event": "Hangup",
            "CallStatus": status,
            "HangupCauseName": name,
            "HangupCauseCode": code,
            "HangupSource": source,
            "Duration": "0",
            "BillDuration": "0",
            "TotalCost": "0.00000",
        }
        return self._webhook(url, **fields)

    @property
    def api_path(self) -> str:
        """The path of requests about this call."""
        return f"/v1/Account/{self._auth_id}/Call/{self.call_id}/"

    async def obey(self, line: Line, request: RESTRequest) -> RESTAnswer:
        """Carry out a request: DELETE hangs up, POST sends the call to other XML."""
        if request.headers.get("authorization") != self._authorization:
            return refusal(401, "authentication failed")
        if self._is_over:
            return refusal(404, "call not found")
        try:
            match request.method, request.path:
                case "DELETE", "":
                    line.agent_hangs_up()
                    return RESTAnswer(204)
                case "POST", "":
                    await self._redirect(line, request.body)
                    return RESTAnswer(202, {"api_id": API_ID, "message": "call transferred"})
                case "POST", "Record/":
                    return self._record(read_json(request.body) or {})
                case "POST", "DTMF/":
                    line.sound(str((read_json(request.body) or {}).get("digits", "")))
                    return RESTAnswer(202, {"api_id": API_ID, "message": "digits sent"})
        except BadAnswer as error:
            return refusal(400, str(error))
        except CallEnded:
            return refusal(404, "call not found")
        return refusal(405, f"the simulation has no {request.method} {request.path}")

    def _record(self, fields: Mapping[str, Any]) -> RESTAnswer:
        url = fields.get("callback_url")
        if fields.get("file_format") not in ("wav", "mp3") or not isinstance(url, str):
            raise BadAnswer(f"a recording must have file_format wav or mp3 and a callback_url, got {fields}")
        self._callback_url = url
        return RESTAnswer(
            202, {"api_id": API_ID, "message": "call recording started", "recording_id": self._recording_id}
        )

    async def _redirect(self, line: Line, body: bytes) -> None:
        fields = read_json(body) or {}
        url = fields.get("aleg_url")
        if fields.get("legs") != "aleg" or fields.get("aleg_method", "POST") != "POST" or not isinstance(url, str):
            raise BadAnswer(f"a transfer must have legs 'aleg' and an aleg_url, got {fields}")
        xml = await self._fetch(line, url)
        if not isinstance(xml, messages.DialXML):
            raise BadAnswer(f"the simulation can only follow <Dial> in a transfer, got {xml}")
        await line.transfer(xml.to)


class SimulatedPlivo(SimulatedCarrier):
    """One call through a simulated Plivo.

    Args:
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        auth_id: the account, as in the carrier object of the program under test.
        auth_token: the account's secret, with which requests are signed.
        call_uuid: Plivo's id of the call.
        line: who calls whom, and what the network does; all of it may be left out.
    """

    def __init__(
        self,
        connect: Connect,
        public_url: str,
        *,
        auth_id: str,
        auth_token: str,
        call_uuid: str = "00000000-0000-4000-8000-000000000001",
        **line: Unpack[LineOptions],
    ) -> None:
        facts, network = parted(call_uuid, line)
        super().__init__(
            connect,
            public_url,
            PlivoProtocol(facts, auth_id, auth_token),
            **network,
        )


def refusal(status: int, error: str) -> RESTAnswer:
    """Return a refusal in Plivo's form."""
    return RESTAnswer(status, {"api_id": API_ID, "error": error})

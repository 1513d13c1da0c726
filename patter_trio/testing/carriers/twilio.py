"""A simulated Twilio: its webhook, its signature and its messages on a simulated line."""

import base64
from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack
from urllib.parse import parse_qsl, urlencode

import msgspec

from patter_trio.errors import CallEnded
from patter_trio.testing.carriers import twilio_messages as messages
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.news import TWILIO_NEWS
from patter_trio.testing.carriers.protocol import (
    BadAnswer,
    CallFacts,
    CallRefused,
    CarrierProtocol,
    Clear,
    FromAgent,
    Line,
    LineOptions,
    Mark,
    Play,
    RESTAnswer,
    RESTRequest,
    StreamOrder,
    Webhook,
    WebhookAnswer,
    parted,
    refusing,
)
from patter_trio.testing.carriers.webhook_post import Connect


class TwilioProtocol(CarrierProtocol):
    """Twilio's side of one call.

    Args:
        facts: who calls whom.
        account_sid: the account, as in the carrier object of the program under test.
        signer: what signs its requests.
    """

    name: ClassVar[str] = "twilio"
    opening_messages: ClassVar[int] = 2  # connected, start

    def __init__(self, facts: CallFacts, account_sid: str, signer: messages.Signer) -> None:
        # Made of the call's id, so that a test can tell it; the two letters are those of Twilio's streams.
        super().__init__(facts, "MZ" + facts.call_id[2:])
        self._account_sid = account_sid
        self._signer = signer
        self._recording_callback = ""
        self._public_url = ""
        self._action = ""
        self._streams = 1
        # One sequence over all messages of a stream, as documented: a gap in it shows that one is missing.
        self._sequence = 0

    async def ask(self, line: Line) -> StreamOrder:
        """Ask the voice webhook how to handle the call.

        Raises:
            CallRefused: it refuses, or does not answer in TwiML.
        """
        self._public_url = line.public_url
        twiml = self._followed(await line.post(self._announcement(line.public_url)))
        if isinstance(twiml, messages.RejectTwiml):
            raise CallRefused(twiml.outcome, f"the server refused the call: {twiml.outcome}")
        return self._order(twiml)

    def _followed(self, answer: WebhookAnswer) -> messages.StreamTwiml | messages.RejectTwiml:
        _check(answer)
        with refusing():
            return messages.read_twiml(answer.body)

    def _order(self, twiml: messages.StreamTwiml) -> StreamOrder:
        # Plain ws only where the whole server is plain, as on loopback.
        if twiml.url.startswith("ws:") and self._public_url.startswith("https:"):
            raise CallRefused("failed", f"31922: <Stream url> must be a wss:// address, got {twiml.url!r}")
        self._action = twiml.action
        return StreamOrder(twiml.url, twiml.parameters)

    async def ask_again(self, line: Line) -> StreamOrder | None:
        """Ask the action of ``<Connect>``; without one, nothing follows, and the call is over.

        Raises:
            CallRefused: it does not answer, or not in TwiML.
        """
        if not self._action:
            return None
        twiml = self._followed(await line.post(self._webhook(self._action, self._form("in-progress"))))
        if isinstance(twiml, messages.RejectTwiml):
            return None
        # Another stream, with ids and a sequence of its own.
        self._streams += 1
        self.stream_id: str = f"MZ{self._streams:02d}{self.call_id[4:]}"
        self._sequence = 0
        return self._order(twiml)

    def _announcement(self, public_url: str) -> Webhook:
        facts = self.facts
        query = f"?{urlencode(facts.custom_params)}" if facts.custom_params else ""
        return self._webhook(f"{public_url}/webhooks/twilio/voice{query}", self._form("ringing"))

    def _form(self, status: str) -> dict[str, str]:
        facts = self.facts
        return {
            **self._about(self.call_id),
            "CallStatus": status,
            # Twilio's name for a call that its REST API placed (twilio.com/docs/voice/twiml#request-parameters).
            "Direction": "outbound-api" if facts.direction == "outbound" else facts.direction,
            "ApiVersion": "2010-04-01",
        }

    def news(self, public_url: str, what: str, call_id: str = "") -> Webhook:
        """Return a webhook with news about a call."""
        kind, fields = TWILIO_NEWS[what]
        return self._webhook(f"{public_url}/webhooks/twilio/{kind}", {**self._about(call_id or self.call_id), **fields})

    def _about(self, call_id: str) -> dict[str, str]:
        return {
            "CallSid": call_id,
            "AccountSid": self._account_sid,
            "From": self.facts.caller,
            "To": self.facts.callee,
        }

    def _webhook(self, url: str, form: Mapping[str, str]) -> Webhook:
        return Webhook(
            url,
            urlencode(form).encode(),
            {
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                **self._signer.headers(url, form),
                "User-Agent": "TwilioProxy/1.1",
                "Accept": "*/*",
            },
        )

    @property
    def api_path(self) -> str:
        """The path of requests about this call."""
        return f"/2010-04-01/Accounts/{self._account_sid}/Calls/{self.call_id}"

    async def obey(self, line: Line, request: RESTRequest) -> RESTAnswer:
        """Carry out a request: transfer the call, end it, record it, or tell its price, which is not known yet."""
        fields = dict(parse_qsl(request.body.decode()))
        try:
            match request.method, request.path:
                case "POST", ".json":
                    if "Twiml" in fields:
                        await line.transfer(messages.read_dial(fields["Twiml"]))
                    else:
                        line.agent_hangs_up()
                    return RESTAnswer(200, {"sid": self.call_id, "status": "in-progress"})
                case "POST", "/Recordings.json":
                    self._recording_callback = fields.get("RecordingStatusCallback", "")
                    sid = self._recording_sid
                    return RESTAnswer(201, {"sid": sid, "call_sid": self.call_id, "status": "in-progress"})
                case "GET", ".json":
                    return RESTAnswer(200, {"sid": self.call_id, "price": None, "price_unit": "USD"})
        except BadAnswer as error:
            return _refusal(400, 12100, str(error))
        except CallEnded:
            return _refusal(400, 21220, "Call is not in-progress. Cannot redirect.")
        return _refusal(404, 20404, f"the simulation has no {request.method} {request.path}")

    @property
    def _recording_sid(self) -> str:
        return f"RE{self.call_id[2:]}"

    def ended_reports(self, how: str) -> Sequence[Webhook]:
        """Return the answer of the party to which the call was transferred, and the report of its recording."""
        answered: tuple[Webhook, ...] = ()
        if how == "transferred" and self._action:
            child = {**self._form("in-progress"), "CallSid": f"CA9{self.call_id[3:]}", "ParentCallSid": self.call_id}
            answered = (self._webhook(f"{self._public_url}/webhooks/twilio/status", child),)
        if not self._recording_callback:
            return answered
        form = {
            "AccountSid": self._account_sid,
            "CallSid": self.call_id,
            "RecordingSid": self._recording_sid,
            "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{self._account_sid}/Recordings/{self._recording_sid}",
            "RecordingStatus": "completed",
            "RecordingDuration": str(round(self._lasted)),
            "RecordingChannels": "2",
            "RecordingSource": "StartCallRecordingAPI",
        }
        return (*answered, self._webhook(self._recording_callback, form))

    def lost_reports(self) -> Sequence[Webhook]:
        """Return the final status of the call, as the number's status callback gets it."""
        return (self._webhook(f"{self._public_url}/webhooks/twilio/status", self._form("completed")),)

    def upgrade_headers(self, order: StreamOrder) -> Mapping[str, str]:
        """Return the signature of the upgrade, which covers its URL."""
        return self._signer.headers(order.url)

    def opening(self, order: StreamOrder) -> Sequence[str]:
        """Return connected and start."""
        body = messages.StartBody(
            stream_sid=self.stream_id,
            account_sid=self._account_sid,
            call_sid=self.call_id,
            custom_parameters=dict(order.parameters),
        )
        return _text(messages.Connected()), _text(messages.Start(**self._ids(), start=body))

    def media(self, frame: int, audio: bytes) -> str:
        """Return a media message."""
        body = messages.MediaBody(
            chunk=str(frame), timestamp=str((frame - 1) * 20), payload=base64.b64encode(audio).decode()
        )
        return _text(messages.Media(**self._ids(), media=body))

    def key(self, digit: str) -> str:
        """Return a dtmf message."""
        return _text(messages.Dtmf(**self._ids(), dtmf=messages.Digit(digit=digit)))

    def played(self, mark: str) -> str:
        """Return a mark message."""
        return _text(messages.MarkPlayed(**self._ids(), mark=messages.Name(mark)))

    def stopped(self) -> str:
        """Return a stop message."""
        return _text(messages.Stop(**self._ids(), stop=messages.StopBody(self._account_sid, self.call_id)))

    def read(self, message: str | bytes) -> FromAgent:
        """Return a decoded message of the agent's server.

        Raises:
            BadMessage: Twilio would not accept the message.
        """
        decoded, audio = messages.read_message(message, self.stream_id)
        match decoded:
            case messages.Play():
                return Play(audio)
            case messages.Mark(mark=mark):
                return Mark(mark.name)
            case messages.Clear():
                return Clear()

    def _ids(self) -> dict[str, str]:
        self._sequence += 1
        return {"sequence_number": str(self._sequence), "stream_sid": self.stream_id}


class SimulatedTwilio(SimulatedCarrier):
    """One call through a simulated Twilio.

    Args:
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        account_sid: the account, as in the carrier object of the program under test.
        auth_token: the account's secret, with which requests are signed.
        call_sid: Twilio's id of the call.
        shared_key: id and secret of a shared key, with which requests are signed instead.
        line: who calls whom, and what the network does; all of it may be left out.
    """

    def __init__(
        self,
        connect: Connect,
        public_url: str,
        *,
        account_sid: str,
        auth_token: str,
        call_sid: str = "CA00000000000000000000000000000001",
        shared_key: tuple[str, str] | None = None,
        **line: Unpack[LineOptions],
    ) -> None:
        facts, network = parted(call_sid, line)
        super().__init__(
            connect,
            public_url,
            TwilioProtocol(facts, account_sid, messages.Signer(auth_token, shared_key)),
            **network,
        )

    @property
    def call_sid(self) -> str:
        """Twilio's id of the call."""
        return self.call_id

    @property
    def stream_sid(self) -> str:
        """Twilio's id of the media stream."""
        return self.stream_id


def _refusal(status: int, code: int, message: str) -> RESTAnswer:
    return RESTAnswer(status, {"code": code, "message": message, "status": status})


def _check(answer: WebhookAnswer) -> None:
    if answer.status != 200:  # noqa: PLR2004 (HTTP's OK)
        raise CallRefused("failed", f"the voice webhook answered {answer.status}: {_shown(answer.body)}")
    # With any other type, Twilio would play or read the body to the caller.
    if not answer.content_type.startswith(("text/xml", "application/xml")):
        raise CallRefused("failed", f"the voice webhook must answer with TwiML (text/xml), got {answer.content_type!r}")


def _text(message: messages.ToAgent) -> str:
    return msgspec.json.encode(message).decode()


def _shown(body: bytes) -> str:
    # Enough of a page to see whose error it is.
    return body[:200].decode(errors="replace")

"""A simulated Telnyx to which a program places calls.

Sources: developers.telnyx.com, "Dial", "Answering Machine Detection" and "Receiving Webhooks".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patter_trio.abc import AnsweredBy, DialRequest, MachineDetection
from patter_trio.carriers.telnyx import Telnyx
from patter_trio.testing.carriers.dialled import Account, DialledCall, OfCall, Unreached, reference_in, whole_number
from patter_trio.testing.carriers.protocol import (
    WEBHOOK_TIMEOUT_S,
    BadAnswer,
    CallFacts,
    CallRefused,
    Line,
    RESTAnswer,
    RESTRequest,
    StreamOrder,
    Webhook,
)
from patter_trio.testing.carriers.rest import read_json
from patter_trio.testing.carriers.telnyx import TelnyxProtocol, refusal

_HANGUP: Final[Mapping[Unreached, tuple[str, str]]] = {
    # hangup_cause, sip_hangup_cause
    "busy": ("user_busy", "486"),
    "no_answer": ("timeout", "487"),
    "failed": ("not_found", "404"),
    "rejected": ("call_rejected", "603"),
    "cancelled": ("originator_cancel", "487"),
}
_PREMIUM: Final[Mapping[AnsweredBy, str]] = {
    "human": "human_residence",
    "machine": "machine",
    "fax": "fax_detected",
    "unknown": "not_sure",
}
_DETECTION: Final[Mapping[str, MachineDetection]] = {
    "disabled": "",
    "premium_ios_call_screening_detection": "answer",
    "premium": "greeting_end",
}
_FIELDS: Final = frozenset(
    {
        *("connection_id", "to", "from", "webhook_url", "webhook_url_method", "timeout_secs", "time_limit_secs"),
        *("answering_machine_detection", "client_state", "command_id", "send_silence_when_idle"),
    }
)
# developers.telnyx.com, "API errors".
_CODES: Final[Mapping[int, tuple[str, str]]] = {
    401: ("10009", "Authentication failed"),
    402: ("20100", "Insufficient Funds"),
    403: ("10010", "Authorization failed"),
    404: ("90015", "Invalid Call Control ID"),
    422: ("10015", "Invalid parameters"),
    429: ("10011", "Too many requests"),
}


class DialledTelnyx(TelnyxProtocol, DialledCall):
    """Telnyx's side of one call that the program has placed.

    Args:
        request: the request that has placed it.
        call_id: its ``call_control_id``.
        key: signs the webhooks.
        api_key: the account's key.
        unix_time: returns the time of signatures.
        client_state: what comes back in each webhook.
    """

    # The command that starts the stream comes when the call is answered.
    starting_command: ClassVar[str] = "streaming_start"

    def __init__(
        self,
        request: DialRequest,
        call_id: str,
        *,
        key: Ed25519PrivateKey,
        api_key: str,
        unix_time: Callable[[], float],
        client_state: str,
    ) -> None:
        facts = CallFacts(call_id, request.from_number, request.to, "outbound")
        super().__init__(facts, key, api_key, unix_time)
        self._request = request
        self._url = request.voice_url
        self._state = client_state

    async def ask(self, line: Line) -> StreamOrder:
        """Report that somebody has answered, and wait for the command that starts the stream.

        Raises:
            CallRefused: the webhook was not taken, or no command came, or one that ends the call.
        """
        self._public_url = line.public_url
        answer = await line.post(self._event("call.answered", {"state": "answered"}))
        if not 200 <= answer.status < 300:  # noqa: PLR2004 (HTTP's successes)
            raise CallRefused("failed", f"the webhook must be answered with 2xx, got {answer.status}")
        with trio.move_on_after(WEBHOOK_TIMEOUT_S):
            await self._decided.wait()
        return self._decision()

    async def _carry_out(self, line: Line, command: str, fields: Mapping[str, Any]) -> None:
        # A phone that rings stops; of one that is being answered, the refusal is what the program's server gets.
        if command == "hangup" and not self._decided.is_set():
            line.agent_hangs_up()
        await super()._carry_out(line, command, fields)

    def dialled_reports(self) -> Sequence[Webhook]:
        """Return the report that the call was initiated; nothing reports that the phone rings."""
        return (self._event("call.initiated", {"direction": "outgoing", "state": "bridging"}),)

    def opened_reports(self) -> Sequence[Webhook]:
        """Return the report that the call streams."""
        return (self._event("streaming.started", {"stream_id": self.stream_id, "stream_type": "websocket"}),)

    def unanswered_reports(self, why: Unreached) -> Sequence[Webhook]:
        """Return the report of the end of a call that was not answered."""
        self._is_over = True
        cause, sip = _HANGUP[why]
        source = "caller" if why == "cancelled" else "callee"
        fields = {"state": "hangup", "hangup_cause": cause, "hangup_source": source, "sip_hangup_cause": sip}
        return (self._event("call.hangup", fields),)

    def found_reports(self, answered_by: AnsweredBy, *, greeting_ended: bool = False) -> Sequence[Webhook]:
        """Return the finding: a machine's greeting has one report more, when it ends."""
        asked = self._request.machine_detection
        if not asked:
            return ()
        if not greeting_ended:
            if answered_by == "screening":
                return (self._event("call.machine.premium.call_screening.detected", {"result": "screening"}),)
            return (self._event("call.machine.premium.detection.ended", {"result": _PREMIUM[answered_by]}),)
        if asked != "greeting_end":
            return ()
        return (self._event("call.machine.premium.greeting.ended", {"result": "beep_detected"}),)


class TelnyxAccount(Account):
    """Telnyx's account for the calls of a program.

    Args:
        carrier: the carrier object of the program, whose credentials both sides use.
        signing_key: the Ed25519 key, 32 bytes, with which the carrier signs; its public key is that of the account.
        unix_time: returns the time of signatures, in seconds.
    """

    _carrier: Telnyx

    def __init__(self, carrier: Telnyx, signing_key: bytes, unix_time: Callable[[], float]) -> None:
        # Any: which applications an account has is not simulated.
        known = carrier if carrier.connection_id else attrs.evolve(carrier, connection_id="1000000000000000001")
        super().__init__(known, f"Bearer {known.api_key}")
        self._key = Ed25519PrivateKey.from_private_bytes(signing_key)
        self._unix_time = unix_time
        self._states: dict[str, str] = {}
        """Each call's client state, by the program's reference of the call."""

    @property
    def api_path(self) -> str:
        """The path of the account's calls."""
        return "/calls"

    def read(self, request: RESTRequest) -> DialRequest | OfCall | RESTAnswer:
        """Read a command: to dial, or about a call."""
        if not self.is_authorized(request):
            return self.refusal(401)
        if request.path:
            call, _, command = request.path.removeprefix("/").partition("/actions/")
            return OfCall(call, command)
        fields = read_json(request.body) or {}
        try:
            return self._dialled(fields)
        except (BadAnswer, ValueError) as error:
            return self.refusal(422, str(error))

    def _dialled(self, fields: Mapping[str, Any]) -> DialRequest:
        wrong = sorted(fields.keys() - _FIELDS | {"connection_id", "to", "from"} - fields.keys())
        detection = fields.get("answering_machine_detection", "disabled")
        if wrong or detection not in _DETECTION:
            raise BadAnswer(f"these fields are unknown, missing or wrong: {wrong or ['answering_machine_detection']}")
        url = str(fields.get("webhook_url", ""))
        reference = reference_in(url)
        self._states[reference] = str(fields.get("client_state", ""))
        return DialRequest(
            to=fields["to"],
            from_number=fields["from"],
            reference=reference,
            # One URL for everything.
            voice_url=url,
            status_url=url,
            amd_url=url,
            machine_detection=_DETECTION[detection],
            # Telnyx's own when it is left out (developers.telnyx.com, "Dial").
            ring_timeout=whole_number(fields, "timeout_secs", 30),
            time_limit=whole_number(fields, "time_limit_secs", 14400) if "time_limit_secs" in fields else None,
        )

    def new_call(self, request: DialRequest, call_id: str) -> DialledCall:
        """Return Telnyx's side of a call."""
        state = self._states.pop(request.reference, "")
        return DialledTelnyx(
            request,
            call_id,
            key=self._key,
            api_key=self._carrier.api_key,
            unix_time=self._unix_time,
            client_state=state,
        )

    def accepted(self, call: DialledCall) -> RESTAnswer:
        """Return the ids of the call."""
        data = {
            "record_type": "call",
            "call_control_id": call.call_id,
            "call_leg_id": "leg",
            "call_session_id": "session",
        }
        return RESTAnswer(200, {"data": {**data, "is_alive": False}})

    def refusal(self, status: int, text: str = "") -> RESTAnswer:
        """Return an error with Telnyx's code."""
        code, title = _CODES.get(status, ("10007", "Unexpected error"))
        return refusal(status, code, title, text)

"""The parts of Twilio's REST API that we use.

* Calls: https://www.twilio.com/docs/voice/api/call-resource
* Recordings: https://www.twilio.com/docs/voice/api/recording
* Numbers: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
* Forms in, JSON out, Basic authentication with the account's SID and Auth Token.
* A refusal has a body ``{"code", "message", "more_info", "status"}``; codes: twilio.com/docs/api/errors
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs

from patter_trio.abc import Dialled, DialRequest, NumberSetup
from patter_trio.carriers import rest
from patter_trio.carriers.rest import CarrierREST, Refusal, basic_authorization
from patter_trio.carriers.twilio_reports import CALL_SID, RECORDING_SID
from patter_trio.errors import ProviderTimeout, ProvisionError
from patter_trio.phone_numbers import mask_number, shown_id

API_URL: Final = "https://api.twilio.com"
CALL_OVER_CODES: Final = (20404, 21220)
"""Codes of "there is no such call" and of "the call is not in a state in which it can be changed"."""
# In the body, not of the answer: a wrong ``api_url`` answers 404, too. A stand-in may send no code.
NOT_FOUND_STATUS: Final = 404
# By default Twilio reports the end alone.
STATUS_EVENTS: Final = ("initiated", "ringing", "answered", "completed")
"""Changes of a dialled call that Twilio reports."""
_MACHINE_DETECTION: Final = {"answer": "Enable", "greeting_end": "DetectMessageEnd"}
_NUMBER_SID: Final = re.compile("PN[0-9a-fA-F]{32}")


def checked_api_url(url: str) -> str:
    """Return the address of Twilio's REST API, or of a stand-in, without a trailing slash.

    Raises:
        ConfigurationError: ``url`` is not such an address.
    """
    return rest.checked_api_url(url, owner="Twilio", usual=API_URL)


def read_refusal(_: int, said: Mapping[str, Any]) -> Refusal:
    """Return the reason in the body of one of Twilio's refusals."""
    code, message = said.get("code"), said.get("message")
    return Refusal(
        str(code) if isinstance(code, int) else "",
        message if isinstance(message, str) else "",
        # By code or by status: a stand-in may send only one of the two.
        call_is_over=code in CALL_OVER_CODES or said.get("status") == NOT_FOUND_STATUS,
    )


@attrs.frozen
class TwilioREST:
    """The REST API of an account; errors are those of :class:`~patter_trio.carriers.rest.CarrierREST`."""

    account_sid: str
    auth_token: str = attrs.field(repr=False)
    api_url: str = API_URL

    async def update_call(self, call_sid: str, fields: Mapping[str, str]) -> None:
        """Change a live call: ``{"Twiml": ...}`` makes it continue with that, ``{"Status": "completed"}`` ends it.

        Raises:
            CallEnded: the call is over, or Twilio does not know its id.
        """
        # Quoted: an id with a slash would name another resource.
        await self._account.command("POST", f"/Calls/{quote(call_sid, safe='')}.json", form=fields)

    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call.

        Twilio may let the phone ring 5 s longer than asked, and limits ``ring_timeout`` to 600 s.

        Raises:
            ProviderError: Twilio refused the call, such as to a country that the account has not enabled.
        """
        # Pairs, because StatusCallbackEvent occurs once for each event.
        fields = [
            ("To", request.to),
            ("From", request.from_number),
            ("Url", request.voice_url),
            ("StatusCallback", request.status_url),
            *(("StatusCallbackEvent", event) for event in STATUS_EVENTS),
            ("Timeout", str(request.ring_timeout)),
        ]
        if request.time_limit is not None:
            fields.append(("TimeLimit", str(request.time_limit)))
        if request.machine_detection:
            fields += [
                ("MachineDetection", _MACHINE_DETECTION[request.machine_detection]),
                # Else Twilio asks for TwiML only when it has its finding, and a person hears silence for seconds.
                ("AsyncAmd", "true"),
                ("AsyncAmdStatusCallback", request.amd_url),
            ]
        answer = await self._account.ask("POST", "/Calls.json", form=fields)
        return Dialled(_id_in(answer, CALL_SID, "call"))

    async def start_recording(self, call_sid: str, callback_url: str) -> str:
        """Record both sides of a live call, in two channels; return the recording's SID.

        Raises:
            CallEnded: the call is over, or Twilio does not know its id.
        """
        fields = {"RecordingStatusCallback": callback_url, "RecordingChannels": "dual"}
        path = f"/Calls/{quote(call_sid, safe='')}/Recordings.json"
        answer = await self._account.ask("POST", path, form=fields, of_call=True)
        return _id_in(answer, RECORDING_SID, "recording")

    async def cost(self, call_sid: str) -> float | None:
        """Return the price of a call in US dollars; None: Twilio has none yet, or only one in another currency.

        Raises:
            CallEnded: Twilio does not know the call's id.
        """
        answer = await self._account.ask("GET", f"/Calls/{quote(call_sid, safe='')}.json", of_call=True)
        price, unit = answer.get("price"), answer.get("price_unit")
        if not isinstance(price, str) or unit != "USD":
            return None
        try:
            cost = -float(price)  # a price is what the account loses: "-0.00850"
        # A price that is not a number is as good as none.
        except ValueError:
            return None
        return cost if math.isfinite(cost) else None

    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number of the account sends its calls.

        Raises:
            ProvisionError: the account does not have the number.
        """
        return _setup_of(await self._number(number))

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:
        """Make a number send its calls to these webhooks; return the new setup.

        Raises:
            ProvisionError: the account does not have the number, or it belongs to a SIP trunk.
        """
        found = await self._number(number)
        # Calls would go on to the trunk; taking the number out of it may cut off a whole office.
        if found.get("trunk_sid"):
            raise ProvisionError(
                f"{mask_number(number)} belongs to the SIP trunk {shown_id(str(found['trunk_sid']))}: "
                f"take it out of the trunk in Twilio's console, then point it here"
            )
        fields = {
            "VoiceUrl": voice_url,
            "VoiceMethod": "POST",
            "StatusCallback": status_url,
            "StatusCallbackMethod": "POST",
        }
        # An application takes precedence over the URLs.
        if found.get("voice_application_sid"):
            fields["VoiceApplicationSid"] = ""
        sid = quote(_id_in(found, _NUMBER_SID, "number"), safe="")
        return _setup_of(await self._account.ask("POST", f"/IncomingPhoneNumbers/{sid}.json", form=fields))

    async def _number(self, number: str) -> dict[str, Any]:
        query = urlencode({"PhoneNumber": number})
        answer = await self._account.ask("GET", f"/IncomingPhoneNumbers.json?{query}")
        numbers = answer.get("incoming_phone_numbers")
        for found in numbers if isinstance(numbers, list) else ():
            # Exactly: Twilio also finds numbers that contain this one.
            if isinstance(found, dict) and found.get("phone_number") == number:
                return found
        raise ProvisionError(f"the Twilio account must have the number {mask_number(number)}; it does not")

    @property
    def _account(self) -> CarrierREST:
        account = f"{self.api_url}/2010-04-01/Accounts/{quote(self.account_sid, safe='')}"
        return CarrierREST(account, basic_authorization(self.account_sid, self.auth_token), read_refusal)


def _id_in(answer: Mapping[str, Any], form: re.Pattern[str], what: str) -> str:
    """Return the SID in an answer.

    Raises:
        ProviderTimeout: it has none: it is unknown what was done.
    """
    sid = answer.get("sid")
    if not isinstance(sid, str) or not form.fullmatch(sid):
        raise ProviderTimeout(f"Twilio's answer has no SID of a {what}, got {shown_id(str(sid))}")
    return sid


def _setup_of(found: Mapping[str, Any]) -> NumberSetup:
    def text(name: str) -> str:
        value = found.get(name)
        return value if isinstance(value, str) else ""

    # Both take precedence over the URLs: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
    parts = [
        f"{what} {text(name)}"
        for what, name in (("application", "voice_application_sid"), ("SIP trunk", "trunk_sid"))
        if text(name)
    ]
    return NumberSetup(text("phone_number"), text("voice_url"), text("status_callback"), ", ".join(parts))

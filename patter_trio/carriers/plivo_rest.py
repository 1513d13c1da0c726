"""The parts of Plivo's REST API that we use.

* Calls: https://www.plivo.com/docs/voice/api/calls
* Recordings: https://www.plivo.com/docs/voice/api/recordings
* Numbers and applications: https://www.plivo.com/docs/numbers/api/account-phone-number
* JSON in and out, Basic authentication with the account's Auth ID and Auth Token.
* A refusal has a body ``{"api_id", "error"}``.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs

from patter_trio.abc import Dialled, DialRequest, NumberSetup
from patter_trio.carriers import rest
from patter_trio.carriers.rest import CarrierREST, Refusal, basic_authorization
from patter_trio.errors import CallEnded, ProviderError, ProvisionError
from patter_trio.phone_numbers import mask_number, shown_id

API_URL: Final = "https://api.plivo.com"
NOT_FOUND_STATUS: Final = 404
# https://www.plivo.com/docs/voice/api/calls: the largest time_limit of a call. A recording that is not given one ends
# after a minute.
MAX_RECORDING_S: Final = 86400
"""Seconds after which a recording ends: the longest call that Plivo allows."""
# https://www.plivo.com/docs/voice/concepts/machine-detection, Plivo's default.
MACHINE_DETECTION_MS: Final = 5000
"""Milliseconds for which Plivo listens for a machine."""
_ID: Final = re.compile("[0-9A-Za-z-]{1,64}")
"""Form of the ids in paths."""
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def checked_api_url(url: str) -> str:
    """Return the address of Plivo's REST API, or of a stand-in, without a trailing slash.

    Raises:
        ConfigurationError: ``url`` is not such an address.
    """
    return rest.checked_api_url(url, owner="Plivo", usual=API_URL)


def read_refusal(status: int, said: Mapping[str, Any]) -> Refusal:
    """Return the reason in the body of one of Plivo's refusals."""
    error = said.get("error")
    # Not by the status alone: a wrong ``api_url`` answers 404, too.
    return Refusal("", error if isinstance(error, str) else "", status == NOT_FOUND_STATUS and "api_id" in said)


def amount(text: Any) -> float | None:
    """Return a number of at least 0, as Plivo writes prices and lengths; None for anything else."""
    return float(text) if isinstance(text, str) and _AMOUNT.fullmatch(text) else None


@attrs.frozen
class PlivoREST:
    """The REST API of an account; errors are those of :class:`~patter_trio.carriers.rest.CarrierREST`."""

    auth_id: str
    auth_token: str = attrs.field(repr=False)
    api_url: str = API_URL

    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call. Its id comes with the first webhook about it; until then, the request's id ends it.

        Plivo detects machines without a report of when their greeting ends.

        Raises:
            ProviderError: Plivo refused the call, such as from a number that the account does not have.
        """
        fields: dict[str, Any] = {
            # Plivo's webhooks leave out the plus; its interface takes a number either way.
            "from": request.from_number.removeprefix("+"),
            "to": request.to.removeprefix("+"),
            "answer_url": request.voice_url,
            "answer_method": "POST",
            "ring_url": request.status_url,
            "ring_method": "POST",
            "hangup_url": request.status_url,
            "hangup_method": "POST",
            "ring_timeout": request.ring_timeout,
        }
        if request.time_limit is not None:
            fields["time_limit"] = request.time_limit
        if request.machine_detection:
            fields |= {
                "machine_detection": "true",
                "machine_detection_time": MACHINE_DETECTION_MS,
                # With a URL, the call goes on meanwhile.
                "machine_detection_url": request.amd_url,
                "machine_detection_method": "POST",
            }
        answer = await self._account.ask("POST", "/Call/", json=fields)
        request_id = answer.get("request_uuid")
        return Dialled("", request_id if isinstance(request_id, str) else "")

    async def hang_up(self, call_id: str, request_id: str) -> None:
        """End a call: by its id, or by that of its request while its own is not known.

        Raises:
            CallEnded: the call is over, or Plivo does not know the id.
        """
        path = f"/Call/{_checked(call_id)}/" if call_id else f"/Request/{_checked(request_id)}/"
        await self._account.command("DELETE", path)

    async def redirect(self, call_id: str, url: str) -> None:
        """Make a live call continue with the XML at ``url``.

        Raises:
            CallEnded: the call is over, or Plivo does not know its id.
        """
        fields = {"legs": "aleg", "aleg_url": url, "aleg_method": "POST"}
        await self._account.command("POST", f"/Call/{_checked(call_id)}/", json=fields)

    async def start_recording(self, call_id: str, callback_url: str) -> str:
        """Record both sides of a live call, in two channels; return the recording's id, or an empty string.

        Raises:
            CallEnded: the call is over, or Plivo does not know its id.
        """
        fields = {
            "file_format": "wav",
            "record_channel_type": "stereo",
            "time_limit": MAX_RECORDING_S,
            # With the call's id: Plivo's report may name only the recording.
            "callback_url": f"{callback_url}{'&' if '?' in callback_url else '?'}{urlencode({'call': call_id})}",
            "callback_method": "POST",
        }
        answer = await self._account.ask("POST", f"/Call/{_checked(call_id)}/Record/", json=fields, of_call=True)
        recording_id = answer.get("recording_id")
        return recording_id if isinstance(recording_id, str) else ""

    async def cost(self, call_id: str) -> float | None:
        """Return what Plivo charges for a call that is over, in US dollars; None: it has no record of it yet."""
        try:
            answer = await self._account.ask("GET", f"/Call/{_checked(call_id)}/", of_call=True)
        # For Plivo, a call has a record only when it is over.
        except CallEnded:
            return None
        return amount(answer.get("total_amount"))

    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number of the account sends its calls: to the application that it belongs to.

        Raises:
            ProvisionError: the account does not have the number.
        """
        objects = await self._listed("Number", number_startswith=number.removeprefix("+"))
        found = next((entry for entry in objects if entry.get("number") == number.removeprefix("+")), None)
        if found is None:
            raise ProvisionError(f"Plivo: the account does not have the number {mask_number(number)}")
        # A path: /v1/Account/MA.../Application/1234/.
        application = str(found.get("application") or "").rstrip("/").rpartition("/")[2]
        if not application:
            return NumberSetup(number, "", detail="the number belongs to no application")
        answer = await self._account.ask("GET", f"/Application/{_quoted(application)}/")
        # Without a detail: the webhooks are the application's, so nothing beside them decides.
        return NumberSetup(number, str(answer.get("answer_url") or ""), str(answer.get("hangup_url") or ""))

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:
        """Give a number an application of its own, with these webhooks; return the new setup.

        The application that it belonged to stays as it is: other numbers may belong to it, too.

        Raises:
            ProvisionError: the account does not have the number, or Plivo refuses.
        """
        # Before anything is changed: a number of another account must not leave an application behind.
        await self.number_setup(number)
        name = f"patter-trio-{number.removeprefix('+')}"
        urls = {
            "answer_url": voice_url,
            "answer_method": "POST",
            "hangup_url": status_url,
            "hangup_method": "POST",
        }
        try:
            # By its name, so that doing it again changes that application instead of adding another.
            listed = await self._listed("Application", app_name=name)
            ours = next((entry for entry in listed if entry.get("app_name") == name), None)
            if ours is None:
                ours = await self._account.ask("POST", "/Application/", json={"app_name": name, **urls})
            else:
                await self._account.ask("POST", f"/Application/{_quoted(str(ours.get('app_id')))}/", json=urls)
            await self._account.ask(
                "POST", f"/Number/{_quoted(number.removeprefix('+'))}/", json={"app_id": str(ours.get("app_id"))}
            )
        except ProviderError as error:
            # Its subclasses say more: wrong credentials, too many requests, no answer.
            if type(error) is not ProviderError:
                raise
            raise ProvisionError(f"Plivo: the number {mask_number(number)} could not be set up: {error}") from error
        return await self.number_setup(number)

    async def _listed(self, resource: str, **filters: str) -> list[Mapping[str, Any]]:
        answer = await self._account.ask("GET", f"/{resource}/?{urlencode(filters)}")
        objects = answer.get("objects")
        return [entry for entry in objects if isinstance(entry, dict)] if isinstance(objects, list) else []

    @property
    def _account(self) -> CarrierREST:
        account = f"{self.api_url}/v1/Account/{_quoted(self.auth_id)}"
        return CarrierREST(account, basic_authorization(self.auth_id, self.auth_token), read_refusal)


def _checked(identity: str) -> str:
    """Return the id of a call or of its request.

    Raises:
        CallEnded: it is not such an id.
    """
    # WARNING: an empty id, or a dot, would make a request about all calls of the account out of one about this call.
    if not _ID.fullmatch(identity):
        raise CallEnded(f"Plivo: not the id of a call: {shown_id(identity)}")
    return identity


def _quoted(text: str) -> str:
    # An id with a slash would name another resource.
    return quote(text, safe="")

"""The parts of Twilio's REST API that we use.

* https://www.twilio.com/docs/voice/api/call-resource
* Forms in, JSON out, Basic authentication with the account's SID and Auth Token.
* A refusal has a body ``{"code", "message", "more_info", "status"}``; codes: twilio.com/docs/api/errors
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import attrs

from patter_trio.carriers import rest
from patter_trio.carriers.rest import CarrierREST, Refusal, basic_authorization

API_URL: Final = "https://api.twilio.com"
CALL_OVER_CODES: Final = (20404, 21220)
"""Codes of "there is no such call" and of "the call is not in a state in which it can be changed"."""
# In the body, not of the answer: a wrong ``api_url`` answers 404, too. A stand-in may send no code.
NOT_FOUND_STATUS: Final = 404


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

    @property
    def _account(self) -> CarrierREST:
        account = f"{self.api_url}/2010-04-01/Accounts/{quote(self.account_sid, safe='')}"
        return CarrierREST(account, basic_authorization(self.account_sid, self.auth_token), read_refusal)

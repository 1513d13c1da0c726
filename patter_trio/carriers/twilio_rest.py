"""The part of Twilio's REST API that live calls need.

* https://www.twilio.com/docs/voice/api/call-resource
* Forms in, JSON out, Basic authentication with the account's SID and Auth Token.
* A refusal has a body ``{"code", "message", "more_info", "status"}``; codes: twilio.com/docs/api/errors
* Each request has its own connection. Requests are few, and on a stale kept connection it would be unknown whether a
  request was carried out: a transfer must not be requested twice.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import attrs

from patter_trio.errors import CallEnded, ConfigurationError, ProviderError
from patter_trio.logs import shown_url
from patter_trio.net.http import check_url, shared_client

API_URL: Final = "https://api.twilio.com"
# Judged: below the 5 s that a transfer has (``call/transfers.py``), so that the error names Twilio and not the
# transfer.
REQUEST_TIMEOUT_S: Final = 4.0
"""Seconds until Twilio must have answered; usually it takes a third of a second."""
# Judged: an answer has about 2 kB. The body of a success is not read.
MAX_ANSWER_BYTES: Final = 65536
CALL_OVER_CODES: Final = (20404, 21220)
"""Codes of "there is no such call" and of "the call is not in a state in which it can be changed"."""
# A stand-in may send no code.
NOT_FOUND_STATUS: Final = 404
# Judged: two lines of a log.
_MAX_EXPLANATION_CHARACTERS: Final = 300
"""Most characters of Twilio's explanation that are quoted."""


def checked_api_url(url: str) -> str:
    """Return the address of Twilio's REST API, or of a stand-in, without a trailing slash.

    Raises:
        ConfigurationError: ``url`` is not such an address.
    """
    parts = urlsplit(url)
    # Anywhere: a space within a host passes the parser.
    spaced = any(character.isspace() for character in url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or spaced:
        raise ConfigurationError(f"Twilio's api_url must be like {API_URL}, got {shown_url(url)!r}")
    # Last: its message shows only the origin.
    check_url(url)
    return url.rstrip("/")


@attrs.define
class _Refusal:
    """The contents of a refusal's body."""

    call_is_over: bool = False

    def explain(self, body: bytes) -> str:
        said = _object(body)
        code, status, message = said.get("code"), said.get("status"), said.get("message")
        # By code or by status: a stand-in may send only one of the two.
        self.call_is_over = code in CALL_OVER_CODES or status == NOT_FOUND_STATUS
        shown = message[:_MAX_EXPLANATION_CHARACTERS] if isinstance(message, str) else ""
        return f"{code}: {shown}" if isinstance(code, int) and shown else shown


@attrs.frozen
class TwilioREST:
    """The REST API of an account."""

    account_sid: str
    auth_token: str = attrs.field(repr=False)
    api_url: str = API_URL

    async def update_call(self, call_sid: str, fields: Mapping[str, str]) -> None:
        """Change a live call: ``{"Twiml": ...}`` makes it continue with that, ``{"Status": "completed"}`` ends it.

        Raises:
            CallEnded: the call is over, or Twilio does not know its id.
            AuthenticationError: Twilio refused the credentials.
            RateLimitError: Twilio asks for fewer requests.
            ProviderTimeout: there was no answer in time; it is unknown whether the call was changed.
            ProviderError: the request failed in another way.
        """
        # Quoted: an id with a slash would name another resource.
        account, call = quote(self.account_sid, safe=""), quote(call_sid, safe="")
        url = f"{self.api_url}/2010-04-01/Accounts/{account}/Calls/{call}.json"
        # Made anew for each request: it keeps what this answer says.
        refusal = _Refusal()
        try:
            async with (
                shared_client() as http,
                http.stream(
                    "POST",
                    url,
                    content=urlencode(fields).encode(),
                    headers=self._headers(),
                    head_timeout=REQUEST_TIMEOUT_S,
                    max_bytes=MAX_ANSWER_BYTES,
                    explain=refusal.explain,
                ),
            ):
                pass  # the status is the whole answer
        except ProviderError as error:
            # As an error of its own: to the call it is not a failure, but news.
            if refusal.call_is_over:
                raise CallEnded(f"the call is over: {error}") from error
            raise

    def _headers(self) -> dict[str, str]:
        credentials = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        return {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            # A connection of its own; see the top of the file.
            "Connection": "close",
        }


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    # A proxy may answer with HTML: then the status is all there is.
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}

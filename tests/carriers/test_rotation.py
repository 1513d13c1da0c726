"""Two secrets while an account changes one: webhooks signed with either count, over each carrier."""

import base64
import hmac
from collections.abc import Callable
from typing import Any

import pytest
import trio

from patter_trio.abc import Carrier, CarrierRequest
from patter_trio.carriers.plivo import Plivo
from patter_trio.carriers.telnyx import Telnyx
from patter_trio.carriers.telnyx_signature import public_key_of, sign
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import CallEnded, ConfigurationError
from patter_trio.testing.servers.plivo_rest import serve_plivo_rest
from patter_trio.testing.servers.twilio_rest import serve_twilio_rest

URL = "https://agent.example/webhooks/x/voice"
FORM, BODY = {"CallSid": "CA1"}, b"CallSid=CA1"
NONCE, NOW = "05429567804466091622", 1_800_000_000


def private(secret: str) -> bytes:
    return secret.encode().ljust(32, b".")


def twilio(secret: str, previous: Any = "", **options: Any) -> Twilio:
    return Twilio("AC1", secret, previous_auth_token=previous, **options)


def plivo(secret: str, previous: Any = "", **options: Any) -> Plivo:
    return Plivo("MA1", secret, previous_auth_token=previous, **options)


def telnyx(secret: str, previous: Any = "") -> Telnyx:
    return Telnyx(
        "KEY",
        public_key_of(private(secret)),
        previous_public_key=public_key_of(private(previous)) if previous else previous,
    )


def by_twilio(secret: str) -> CarrierRequest:
    return CarrierRequest("voice", URL, {"x-twilio-signature": twilio(secret).sign(URL, FORM)}, BODY)


def by_plivo(secret: str) -> CarrierRequest:
    signature = plivo(secret).sign("POST", URL, FORM, NONCE)
    return CarrierRequest("voice", URL, {"x-plivo-signature-v3": signature, "x-plivo-signature-v3-nonce": NONCE}, BODY)


def by_telnyx(secret: str) -> CarrierRequest:
    return CarrierRequest("voice", URL, sign(private(secret), NOW, BODY), BODY, received_at=NOW)


each = pytest.mark.parametrize(
    ("carrier", "signed_by"),
    [
        pytest.param(twilio, by_twilio, id="twilio"),
        pytest.param(plivo, by_plivo, id="plivo"),
        pytest.param(telnyx, by_telnyx, id="telnyx"),
    ],
)


@each
def test_either_secret_signs_while_changing(
    carrier: Callable[..., Carrier], signed_by: Callable[[str], CarrierRequest]
) -> None:
    """Signatures with the current and with the previous secret count, and no third one's."""
    changing = carrier("new", "old")
    assert changing.is_authentic(signed_by("new"))
    assert changing.is_authentic(signed_by("old"))
    assert not changing.is_authentic(signed_by("other"))


@each
@pytest.mark.parametrize("previous", ["", None])
def test_previous_secret_is_optional(
    previous: str | None, carrier: Callable[..., Carrier], signed_by: Callable[[str], CarrierRequest]
) -> None:
    """Without a previous secret only the current one signs; an absent environment variable may stand for none."""
    changed = carrier("new", previous)
    assert changed.is_authentic(signed_by("new"))
    assert not changed.is_authentic(signed_by("old"))
    assert changed == carrier("new")


def test_empty_secret_signs_nothing() -> None:
    """An absent previous secret signs nothing: what anybody signs with an empty key is refused."""
    forged = base64.b64encode(hmac.digest(b"", f"{URL}CallSidCA1".encode(), "sha1")).decode()
    assert not twilio("new").is_authentic(CarrierRequest("voice", URL, {"x-twilio-signature": forged}, BODY))
    forged = base64.b64encode(hmac.digest(b"", f"{URL}?CallSidCA1.{NONCE}".encode(), "sha256")).decode()
    headers = {"x-plivo-signature-v3": forged, "x-plivo-signature-v3-nonce": NONCE}
    assert not plivo("new").is_authentic(CarrierRequest("voice", URL, headers, BODY))


@each
def test_previous_secret_must_be_text(
    carrier: Callable[..., Carrier], signed_by: Callable[[str], CarrierRequest]
) -> None:
    """A list of secrets is an error that shows none of them."""
    made = {twilio: Twilio, plivo: Plivo, telnyx: Telnyx}[carrier]  # type: ignore[index]
    option = "previous_public_key" if made is Telnyx else "previous_auth_token"
    with pytest.raises(ConfigurationError, match="a previous secret must be a string, got list") as wrong:
        made("AC1", "A" * 43 + "=", **{option: ["hush"]})
    assert "hush" not in str(wrong.value)


def test_previous_public_key_is_checked_when_made() -> None:
    """A previous public key of another form is an error that names the option."""
    with pytest.raises(ConfigurationError, match="Telnyx: previous_public_key must be the base64 of 32 bytes"):
        Telnyx("KEY", public_key_of(private("new")), previous_public_key="AAAA")


def test_previous_secrets_do_not_show() -> None:
    """The repr of a carrier has neither token."""
    assert "old-hush" not in repr(twilio("new-hush", "old-hush")) + repr(plivo("new-hush", "old-hush"))


async def test_requests_use_the_current_token() -> None:
    """Requests over REST are authorized with the current token: the servers know no other."""
    with trio.fail_after(10):
        async with serve_twilio_rest("AC1", "new") as rest:
            with pytest.raises(CallEnded):
                await twilio("new", "old", api_url=rest.api_url).hang_up("CA" + "1" * 32)
        async with serve_plivo_rest("MA1", "new") as rest:
            with pytest.raises(CallEnded):
                await plivo("new", "old", api_url=rest.api_url).hang_up("a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e")

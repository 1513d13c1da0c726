"""Twilio's shared keys: webhooks signed by HMAC-SHA256 with a key that the configuration knows."""

from typing import Any

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Patter
from patter_trio.abc import CarrierRequest
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import ConfigurationError
from patter_trio.pytest_plugin import CallSimulator
from tests.kit.call import agent_of

KEY, OTHER = "webhooks_sharedkey_01", "webhooks_sharedkey_02"
SECRET, TOKEN = "made by the customer", "hush"
URL = "https://agent.example/webhooks/twilio/voice?tenant=7"
FORM = {"CallSid": "CA" + "1" * 32, "From": "+15550100001", "To": "+15550100002"}
BODY = b"CallSid=CA11111111111111111111111111111111&From=%2B15550100001&To=%2B15550100002"
# Twilio's own Python library, 9.13: RequestValidator(SECRET).compute_signature(URL, FORM, "HMAC_SHA256"), and of the
# upgrade's URL. The others sign the same request with the token by SHA-1 and SHA-256, and with the secret by SHA-1.
BY_KEY = "SOnnkHfbZQ/5SsuqdOGtMZ8NqwOoxHOKXnv00zYU9B0="
UPGRADE_BY_KEY = "59u5vRKLdzFJYZEMBof02GNuy6aeqUo7qz92R5h8hjA="
BY_TOKEN, BY_TOKEN_SHA256, BY_KEY_SHA1 = (
    "Ajyoy7sjZa87BrPWQHVH0GVnhiw=",
    "N0jqqzPI8WbSbHgOWftohU0Ug/LnUJi16h1FHg3ABqI=",
    "Ix2HxzRq6mrZQKkYnSeimo/5o2Q=",
)
UPGRADE = "wss://agent.example/ws/twilio/stream/CA1"


def settings_of(key: str = KEY, algorithm: str = "HMAC_SHA256") -> str:
    return f"key={key},algorithm={algorithm}"


def request(signature: str, settings: str | None, *, body: bytes = BODY, url: str = URL) -> CarrierRequest:
    headers = {"x-twilio-signature": signature}
    if settings is not None:
        headers["x-twilio-webhooks-signature-settings"] = settings
    return CarrierRequest("voice", url, headers, body)


KEYED = Twilio("AC1", TOKEN, shared_keys={KEY: SECRET})


@pytest.mark.parametrize("settings", [settings_of(), f"algorithm=hmac_sha256, key={KEY} ,version=2"])
def test_shared_key_signs_webhooks_and_upgrades(settings: str) -> None:
    """What a configured key signed by HMAC-SHA256 is accepted, in whatever order the header says so."""
    assert KEYED.is_authentic(request(BY_KEY, settings))
    upgrade = {"x-twilio-signature": UPGRADE_BY_KEY, "x-twilio-webhooks-signature-settings": settings}
    assert KEYED.is_authentic(CarrierRequest("stream", UPGRADE, upgrade, method="GET"))


@pytest.mark.parametrize(
    ("signature", "settings"),
    [
        pytest.param(BY_KEY, settings_of(OTHER), id="unknown-key"),
        pytest.param(BY_KEY, settings_of(KEY, "HMAC_SHA512"), id="unknown-algorithm"),
        pytest.param(BY_KEY_SHA1, settings_of(KEY, "HMAC_SHA1"), id="weaker-algorithm"),
        pytest.param(BY_KEY, f"key={KEY}", id="no-algorithm"),
        pytest.param(BY_KEY, "algorithm=HMAC_SHA256", id="no-key"),
        pytest.param(BY_KEY, "key=,algorithm=HMAC_SHA256", id="empty-key"),
        pytest.param(BY_KEY, f"key={OTHER},{settings_of()}", id="two-keys"),
        pytest.param(BY_KEY, "", id="empty-header"),
        pytest.param(BY_KEY, None, id="no-header"),
        pytest.param(BY_KEY_SHA1, settings_of(), id="sha1-said-to-be-sha256"),
        pytest.param(BY_TOKEN, settings_of(), id="token-said-to-be-key"),
        pytest.param(BY_TOKEN_SHA256, settings_of(), id="token-by-sha256"),
        pytest.param(BY_TOKEN, None, id="token"),
        pytest.param(BY_KEY[:-1], settings_of(), id="cut"),
        pytest.param("\udc80é", settings_of(), id="odd"),
        pytest.param("", settings_of(), id="empty-signature"),
    ],
)
def test_header_decides_neither_secret_nor_algorithm(signature: str, settings: str | None) -> None:
    """With shared keys, only HMAC-SHA256 by one of them counts, whatever the header claims."""
    assert not KEYED.is_authentic(request(signature, settings))


@pytest.mark.parametrize(("signature", "settings"), [(BY_KEY, settings_of()), (BY_TOKEN, settings_of())])
def test_without_shared_keys_the_header_is_refused(signature: str, settings: str) -> None:
    """An account without shared keys refuses a request that claims one; its token signs as before."""
    plain = Twilio("AC1", TOKEN)
    assert not plain.is_authentic(request(signature, settings))
    assert plain.is_authentic(request(BY_TOKEN, None))


def test_token_counts_beside_keys_on_request_only() -> None:
    """The Auth Token signs beside shared keys only if the account says so, and never under a key's name."""
    both = Twilio("AC1", TOKEN, shared_keys={KEY: SECRET}, accept_auth_token=True)
    assert both.is_authentic(request(BY_TOKEN, None))
    assert both.is_authentic(request(BY_KEY, settings_of()))
    assert not both.is_authentic(request(BY_TOKEN, settings_of()))
    assert not both.is_authentic(request(BY_KEY, None))


def test_two_shared_keys_count_while_changing() -> None:
    """Each of two keys signs under its own name, and neither under the other's."""
    two = Twilio("AC1", TOKEN, shared_keys={OTHER: "the next", KEY: SECRET})
    assert two.is_authentic(request(BY_KEY, settings_of(KEY)))
    assert not two.is_authentic(request(BY_KEY, settings_of(OTHER)))


@pytest.mark.parametrize(("body", "url"), [(BODY + b"&Digits=1", URL), (BODY, URL + "8"), (b"", URL)])
def test_shared_key_covers_url_and_fields(body: bytes, url: str) -> None:
    """A signature by a shared key breaks with any change of the URL or of a field."""
    assert not KEYED.is_authentic(request(BY_KEY, settings_of(), body=body, url=url))


@given(st.text(max_size=40) | st.lists(st.sampled_from(["key=", "algorithm=HMAC_SHA256", KEY, ",", "="])).map("".join))
def test_any_settings_header_is_taken(settings: str) -> None:
    """Whatever the settings header has, the check answers; a wrong signature is never accepted."""
    assert not KEYED.is_authentic(request(BY_TOKEN, settings))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param("hush", "shared_keys must be a dict of ids and secrets, got str", id="text"),
        pytest.param({"": "hush"}, "an id in shared_keys must be text such as", id="empty-id"),
        pytest.param({"a,b": "hush"}, "an id in shared_keys must be text such as", id="comma"),
        pytest.param({7: "hush"}, "an id in shared_keys must be text such as", id="number"),
        pytest.param({KEY: ""}, f"the secret of '{KEY}' in shared_keys must be text that is not empty", id="no-secret"),
        pytest.param({KEY: b"hush"}, f"the secret of '{KEY}' in shared_keys must be text", id="bytes"),
    ],
)
def test_shared_keys_are_checked_when_made(keys: Any, said: str) -> None:
    """Keys that could never sign are an error when the carrier is made, which shows no secret."""
    with pytest.raises(ConfigurationError) as wrong:
        Twilio("AC1", TOKEN, shared_keys=keys)
    assert said in str(wrong.value)
    assert "hush" not in str(wrong.value)


def test_shared_keys_are_copied_and_hidden() -> None:
    """The carrier keeps its own copy of the keys, can be hashed, and shows no secret."""
    given_keys = {KEY: SECRET}
    carrier = Twilio("AC1", TOKEN, shared_keys=given_keys)
    given_keys.clear()
    assert carrier == KEYED
    assert hash(carrier) == hash(KEYED)
    assert SECRET not in repr(carrier)
    assert Twilio("AC1", TOKEN, shared_keys=None).shared_keys == {}  # type: ignore[arg-type]


async def test_simulated_call_signs_with_shared_key(
    autojump_clock: trio.testing.MockClock, call_simulator: CallSimulator
) -> None:
    """A simulated call to an account with shared keys is signed by one of them, webhook and upgrade."""
    async with call_simulator(agent_of(first_message="Hello."), Patter(carrier=KEYED)) as caller:
        assert (await caller.hears()).text == "Hello."

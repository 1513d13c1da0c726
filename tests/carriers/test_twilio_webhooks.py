"""Signatures, TwiML and credentials of the Twilio carrier, and the development carrier beside it."""

import hashlib
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import stream_reference
from patter_trio.carriers.local import LocalCarrier
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import ConfigurationError

TWILIO = Twilio("AC1", "12345")
CALL = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}

# The first is the example of Twilio's documentation; all came out of Twilio's own Python library, 9.13.
VECTORS: list[tuple[str, dict[str, Any], str]] = [
    ("https://mycompany.com/myapp.php?foo=1&bar=2", CALL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    (
        "https://agent.example:8443/webhooks/twilio/voice",
        {"CallSid": "CA1", "From": "+15551234567", "To": "+15557654321", "Empty": "", "CallerName": "Grüße & Co"},
        "xu0T0BFyZYaPFDnatV+J3Mke53Y=",
    ),
    (
        "https://agent.example/webhooks/twilio/voice",
        {"CallSid": "CA1", "MediaUrl": ["b", "a", "b"]},
        "lbZKtA7IFoXgvObswC6uiPX2YHI=",
    ),
    ("wss://agent.example/ws/twilio/stream/CA1", {}, "jbUcBr0fn53j3j9HwvbNvuNWb0Q="),
]


@pytest.mark.parametrize(("url", "params", "signature"), VECTORS)
def test_signatures_are_those_of_twilios_library(url: str, params: dict[str, Any], signature: str) -> None:
    """Our signature of a request equals the one that Twilio's library makes, and the check accepts it."""
    assert TWILIO.sign(url, params) == signature
    assert TWILIO.check(url, params, signature)


@pytest.mark.parametrize(("url", "params", "signature"), VECTORS)
def test_another_secret_url_field_or_signature_is_refused(url: str, params: dict[str, Any], signature: str) -> None:
    """A signature is refused if the secret, the URL, a field or the signature differs."""
    assert not Twilio("AC1", "54321").check(url, params, signature)
    assert not TWILIO.check(url + "x", params, signature)
    assert not TWILIO.check(url, params | {"Extra": "1"}, signature)
    assert not TWILIO.check(url, params, "")
    assert not TWILIO.check(url, params, signature[:-1])
    assert not TWILIO.check(url, params, "\udc80é")


@pytest.mark.parametrize(
    ("signed", "called", "same"),
    [
        ("https://a.example:443/x", "https://a.example/x", True),
        ("https://a.example/x?", "https://a.example:443/x?", True),
        ("http://a.example:80/x", "http://a.example/x", True),
        ("wss://a.example:443/x", "wss://a.example/x", True),
        ("wss://a.example/x/", "wss://a.example/x", True),
        ("https://a.example/x/", "https://a.example/x", False),
        # Twilio drops the port of some URLs, so the one without it must pass, too; another port must not.
        ("https://a.example/x", "https://a.example:8443/x", True),
        ("https://a.example:8443/x", "https://a.example:8443/x", True),
        ("https://a.example:9443/x", "https://a.example:8443/x", False),
        ("https://a.example:443/x", "https://a.example:8443/x", False),
        ("http://a.example/x", "https://a.example:8443/x", False),
        ("wss://a.example/x/", "wss://a.example:8443/x", True),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]:8443/x", True),
        ("https://[2001:db8::1]:443/x", "https://[2001:db8::1]/x", True),
        # The user in front of the host is for the proxy; Twilio signs the URL without it.
        ("https://a.example/x", "https://user:pw@a.example/x", True),
        ("https://user:pw@a.example/x", "https://user:pw@a.example/x", True),
        ("https://a.example/x", "https://user:pw@a.example:8443/x", True),
        ("https://other:pw@a.example/x", "https://user:pw@a.example/x", False),
        ("https://a.example/x?", "https://a.example/x", True),
        ("https://a.example/x?a=", "https://a.example/x", False),
        ("https://a.example:8443/x", "https://a.example/x", False),
        ("https://a.example:80/x", "https://a.example/x", False),
        ("http://a.example/x", "https://a.example/x", False),
    ],
)
def test_signature_holds_for_twilios_forms_only(signed: str, called: str, same: bool) -> None:
    """A signature holds without the URL's port or user, and breaks with any other change of the URL."""
    assert TWILIO.check(called, {}, TWILIO.sign(signed, {})) is same


def test_json_body_is_covered_by_hash() -> None:
    """The bodySHA256 parameter covers a body that is not a form, and a body without it is refused."""
    body = b'{"a": 1}'
    url = f"https://agent.example/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = "mWBnCnXB9xi402L+u2i/07b9+Po="
    assert TWILIO.check(url, body, signature)
    assert not TWILIO.check(url, b'{"a": 2}', signature)
    bare = "https://agent.example/x"
    assert not TWILIO.check(bare, body, TWILIO.sign(bare, body))


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text(), min_size=1)), st.text(), st.text())
def test_signature_needs_its_own_token(params: dict[str, Any], one: str, other: str) -> None:
    """A signature is valid for its own request and invalid under another auth token."""
    mine, theirs = Twilio("AC1", one + "1"), Twilio("AC1", other + "2")
    url = "https://agent.example/webhooks/twilio/voice?x=%20"
    assert mine.check(url, params, mine.sign(url, params))
    assert not theirs.check(url, params, mine.sign(url, params))


def test_stream_twiml_escapes_url_and_parameters() -> None:
    """The stream TwiML carries the URL and all parameters intact, whatever characters they contain."""
    nasty = {"token": 'a"<&b', "name": "Grüße\n'quoted'"}
    xml = TWILIO.twiml_stream("wss://agent.example/ws/twilio/stream/CA1", nasty)
    response = ET.fromstring(xml.encode())  # noqa: S314 (it is ours)
    assert [child.tag for child in response] == ["Connect"]
    stream = response[0][0]
    assert (stream.tag, stream.attrib) == ("Stream", {"url": "wss://agent.example/ws/twilio/stream/CA1"})
    assert {p.attrib["name"]: p.attrib["value"] for p in stream} == nasty


def test_connect_asks_for_failures_of_streams() -> None:
    """The answer to an offered call names our status webhook for the failures of its stream, behind the same server."""
    xml = TWILIO.connect("wss://user@agent.example/base/ws/twilio/stream/CA1", {"token": "a1"})
    connect = ET.fromstring(xml.encode())[0]  # noqa: S314 (it is ours)
    assert connect.attrib == {
        "action": f"https://user@agent.example/base/webhooks/twilio/return?stream={stream_reference('a1')}"
    }
    assert connect[0].attrib["statusCallback"] == "https://user@agent.example/base/webhooks/twilio/status"
    assert (
        TWILIO.connect("ws://a.example/ws/twilio/stream/CA1", {}).count("http://a.example/webhooks/twilio/status") == 1
    )


def test_reject_twiml_says_busy() -> None:
    """The TwiML that refuses a call is one Reject with the reason busy."""
    response = ET.fromstring(TWILIO.twiml_reject().encode())  # noqa: S314 (our own XML)
    assert [(child.tag, child.attrib) for child in response] == [("Reject", {"reason": "busy"})]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "Twilio: account_sid= must be given, or the environment variable TWILIO_ACCOUNT_SID set"),
        (
            {"TWILIO_ACCOUNT_SID": "AC9"},
            "Twilio: auth_token= must be given, or the environment variable TWILIO_AUTH_TOKEN set",
        ),
    ],
)
def test_absent_credentials_are_named(environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twilio() without credentials raises a ConfigurationError that names the environment variable to set."""
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as absent:
        Twilio()
    assert str(absent.value) == said


def test_credentials_come_from_the_environment_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twilio() reads its credentials from the environment, prefers arguments and hides the token."""
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC9")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "hush")
    assert Twilio() == Twilio("AC9", "hush")
    assert Twilio(account_sid="AC1").account_sid == "AC1"
    assert "hush" not in repr(Twilio())


def test_local_carrier_accepts_only_own_signatures() -> None:
    """A local carrier speaks Twilio's protocol and accepts only signatures made with its own token."""
    one, other = LocalCarrier(), LocalCarrier()
    assert (one.name, one.voice_path) == ("local", "/webhooks/twilio/voice")
    assert one.auth_token not in repr(one)
    assert one.check("http://127.0.0.1:8000/x", CALL, one.sign("http://127.0.0.1:8000/x", CALL))
    assert not one.check("http://127.0.0.1:8000/x", CALL, other.sign("http://127.0.0.1:8000/x", CALL))
    assert repr(one.new_codec()) == "<TwilioCodec not started>"

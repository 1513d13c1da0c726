"""No repr, error or log line shows a key, a part of a URL that may be secret, or a whole number."""

from collections.abc import Callable

import pytest

from patter_trio import Agent, ConfigurationError, DeepgramSTT, ElevenLabsTTS, OpenAILLM, OpenAIRealtime, Patter
from patter_trio.abc import CallInfo
from patter_trio.carriers.twilio import Twilio
from patter_trio.carriers.twilio_rest import checked_api_url
from patter_trio.logs import shown_url, shown_value
from patter_trio.server.context import checked_public_url
from patter_trio.server.pending import PendingCalls
from tests.kit.server import CARRIER, FakeCallServer

REST = "user:hush@llm.example:8443/hush"


@pytest.mark.parametrize(
    "made",
    [
        lambda: OpenAILLM(api_key="hush", base_url="https://" + REST, extra={"key": "hush"}),
        lambda: DeepgramSTT(api_key="hush", base_url="wss://" + REST),
        lambda: ElevenLabsTTS(api_key="hush", base_url="https://" + REST),
        lambda: OpenAIRealtime(api_key="hush", base_url="wss://" + REST),
        lambda: Twilio("AC1", "hush", previous_auth_token="hush", shared_keys={"webhooks_sharedkey_1": "hush"}),
        lambda: CallInfo("CA1", "+15551234567", "+15557654321", "inbound", {"pin": "hush"}),
        lambda: PendingCalls(new_token=lambda: "hush").announce(
            CallInfo("CA1", "+15551234567", "5557654321", "inbound", {"pin": "hush"}), 0.0
        ),
    ],
)
def test_repr_shows_no_secret(made: Callable[[], object]) -> None:
    """The repr of a provider or a call has no key, no part of a URL but its origin, and no whole number."""
    shown = repr(made())
    assert "hush" not in shown
    assert "555123" not in shown
    assert "555765" not in shown


@pytest.mark.parametrize(
    "made",
    [
        lambda: Agent("x", stt="sk-hush"),  # type: ignore[arg-type]
        lambda: Agent("x", llm="sk-hush"),  # type: ignore[arg-type]
        lambda: Agent("x", tts=b"hush"),  # type: ignore[arg-type]
        lambda: Agent("x", variables="Hush1"),  # type: ignore[arg-type]
        lambda: Patter(carrier="hush9f8e"),  # type: ignore[arg-type]
        lambda: checked_public_url("https://user:hush@x/?hush"),
        lambda: checked_public_url("ftp://user:hush@x/hush"),
        lambda: checked_public_url("https://user:hush@[::1/hush"),
        lambda: checked_public_url("https://user:hush@h:hush"),
        lambda: checked_public_url("https://user:hush@h:99999"),
        lambda: DeepgramSTT(api_key="hush", base_url="http://" + REST),
        lambda: OpenAIRealtime(api_key="hush", base_url="http://" + REST),
        lambda: OpenAILLM(api_key="hush", base_url="ftp://" + REST),
        lambda: ElevenLabsTTS(api_key="hush", base_url="ftp://" + REST),
        lambda: checked_api_url("ftp://" + REST),
    ],
)
def test_error_quotes_no_secret(made: Callable[[], object]) -> None:
    """The error about a value of a wrong type, or about a URL, has nothing of it that may be a secret."""
    with pytest.raises(ConfigurationError) as raised:
        made()
    assert "hush" not in str(raised.value).lower()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hush@Agent.example.com/hush?key=hush#hush", "https://Agent.example.com/..."),
        ("https://agent.example.com", "https://agent.example.com"),
        ("https://agent.example.com/", "https://agent.example.com"),
        ("https://agent.example.com?hush", "https://agent.example.com/..."),
        ("https://us/er:hu@sh@agent.example.com:8443/", "https://agent.example.com:8443"),
        ("ws://127.0.0.1:8000/x", "ws://127.0.0.1:8000/..."),
        ("https://[::1", "https://[::1"),
        ("agent.example.com/hush", "agent.example.com"),
        ("localhost:8000", "localhost:8000"),
        ("sk-hush", "..."),
        ("https://a\x1b\n/", "https://a\\x1b\\n"),
        ("", "..."),
        (None, "NoneType"),
        (b"hush", "bytes"),
    ],
)
def test_a_url_is_shown_by_its_origin(url: object, shown: str) -> None:
    """shown_url() has scheme, host and port of any text, and nothing else of it."""
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("deepgram", "str: 'deepgram'"),
        ("sk-1", "str"),
        (3, "int: 3"),
        (["hush"], "list"),
        (None, "NoneType: None"),
        (b"hush", "bytes"),
    ],
)
def test_only_plain_values_are_shown(value: object, shown: str) -> None:
    """shown_value() has the type of a value, and of texts only plain words."""
    assert shown_value(value) == shown


def test_the_public_url_of_logs_has_no_user() -> None:
    """The public URL that logs name has no user and password; signatures are checked with the whole URL."""
    context = FakeCallServer(public_url="https://hook:hush@agent.example/base").context
    assert context.shown_public_url == "https://agent.example/base"
    assert context.public_url == "https://hook:hush@agent.example/base"
    assert CARRIER.check(context.public_url + "/x", {}, CARRIER.sign("https://agent.example/base/x", {}))

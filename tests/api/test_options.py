"""Options of all public classes and functions: URLs, keys and durations of 0."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from patter_trio import (
    Agent,
    ConfigurationError,
    DeepgramSTT,
    ElevenLabsTTS,
    Fallback,
    IVRActivity,
    Keypad,
    Menu,
    OpenAILLM,
    OpenAIRealtime,
    Patter,
    PiperTTS,
    SileroVAD,
    Tool,
    Twilio,
    WarmTransfer,
    WhisperSTT,
    init_tracing,
    schedule_interval,
)
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS

KEY = "k" * 40
SECRET = "s3cret"
PROVIDERS = {"stt": ScriptedSTT(), "tts": ScriptedTTS()}

# Each option that takes a URL, and the scheme of a valid one.
URLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "DeepgramSTT.base_url": (lambda url: DeepgramSTT(KEY, base_url=url), "wss"),
    "ElevenLabsTTS.base_url": (lambda url: ElevenLabsTTS(KEY, base_url=url), "https"),
    "OpenAILLM.base_url": (lambda url: OpenAILLM(base_url=url), "http"),
    "OpenAIRealtime.base_url": (lambda url: OpenAIRealtime(KEY, base_url=url), "wss"),
    "Tool.webhook_url": (lambda url: Tool("t", webhook_url=url), "https"),
    "Twilio.api_url": (lambda url: Twilio("AC1", "t", api_url=url), "https"),
    "init_tracing.endpoint": (lambda url: init_tracing(endpoint=url), "http"),
}


async def served(url: Any, *, option: str) -> None:
    agent = Agent("x", **PROVIDERS, llm=None if option == "on_message" else ScriptedLLM(["Yes."]))  # type: ignore[arg-type]
    phone = Patter(webhook_url=url) if option == "webhook_url" else Patter()
    # An option that is not refused would serve until the test fails.
    await phone.serve(agent, -1, on_message=url if option == "on_message" else None)


@pytest.mark.parametrize(("make", "scheme"), URLS.values(), ids=URLS.keys())
@pytest.mark.parametrize(
    "url",
    [
        "{scheme}://[",
        "{scheme}://host:port",
        "{scheme}://host:99999",
        "{scheme}://",
        "{scheme}://ho st",
        "{scheme}://host/\n",
        "{scheme}://xn--\u00e9.example",
        "{scheme}://user:s3cret@[",
        "ftp://host",
        "host",
        7,
        b"https://host",
    ],
    ids=[
        "bracket",
        "port",
        "high-port",
        "no-host",
        "space",
        "line",
        "idna",
        "secret",
        "scheme",
        "bare",
        "int",
        "bytes",
    ],
)
def test_invalid_url_is_a_configuration_error(make: Callable[[Any], Any], scheme: str, url: Any) -> None:
    """Each option that takes a URL refuses an invalid one with our error, which names it and shows no password."""
    with pytest.raises(ConfigurationError, match=r"^[A-Za-z_].* must (be|have) ") as caught:
        make(url.format(scheme=scheme) if isinstance(url, str) else url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("option", ["webhook_url", "on_message"])
@pytest.mark.parametrize(
    "url", ["http://[", "http://host:port", "ftp://host", 7], ids=["bracket", "port", "ftp", "int"]
)
async def test_invalid_url_is_refused_by_serve(option: str, url: Any) -> None:
    """The URL of a phone, and that of on_message, are refused with our error before a port is open."""
    with pytest.raises(ConfigurationError, match=r"^(the public URL|webhook_url|on_message) must be "):
        await served(url, option=option)


@pytest.mark.parametrize(("make", "scheme"), URLS.values(), ids=URLS.keys())
def test_valid_url_is_accepted(make: Callable[[Any], Any], scheme: str) -> None:
    """Each option that takes a URL accepts a host with a port, and a scheme in capitals."""
    make(f"{scheme}://127.0.0.1:8080/base")
    make(f"{scheme.upper()}://example.com")


@pytest.mark.parametrize("name", [name for name in URLS if name.endswith((".base_url", ".api_url"))])
def test_base_url_has_no_query(name: str) -> None:
    """A URL to which paths are appended is refused if it has a query, which would swallow them."""
    make, scheme = URLS[name]
    with pytest.raises(ConfigurationError, match=r"without a \?query, got .*://host\.\.\.\?\.\.\.$") as caught:
        make(f"{scheme}://host/v1?token={SECRET}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        DeepgramSTT,
        ElevenLabsTTS,
        OpenAILLM,
        partial(OpenAILLM, base_url="http://127.0.0.1:1/v1"),
        OpenAIRealtime,
    ],
    ids=["deepgram", "elevenlabs", "openai", "compatible", "realtime"],
)
@pytest.mark.parametrize(
    "key", ["s3cret\n", "s3cret\u2013", "two s3cret", "s3cret\x00"], ids=["line", "dash", "space", "nul"]
)
def test_key_must_fit_a_header(make: Callable[[str], Any], key: str) -> None:
    """A key that no header can carry is refused when the provider is made, by an error that does not show it."""
    with pytest.raises(ConfigurationError, match="must be printable ASCII without spaces or line breaks") as caught:
        make(key)
    assert SECRET not in str(caught.value)


# Each option that takes a duration: what refuses it, and the end of the complaint, which names "no limit" if there is
# one.
NO_ZERO: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{
        f"Agent.{name}": (
            partial(lambda value, name: Agent("x", **PROVIDERS, **{name: value}), name=name),
            "None for never",
        )
        for name in ("user_away_timeout", "silence_timeout", "max_call_duration")
    },
    "Tool.timeout_s": (lambda value: Tool("t", handler=print, timeout_s=value), "more than 0"),
    "Fallback.patience": (lambda value: Fallback(ScriptedSTT(), patience=value), "above 0"),
    "Fallback.recover_after": (lambda value: Fallback(ScriptedSTT(), recover_after=value), "above 0"),
    "OpenAILLM.first_token": (lambda value: OpenAILLM(KEY, first_token=value), "from 0.1 to 600"),
    "OpenAILLM.between": (lambda value: OpenAILLM(KEY, between=value), "from 0.1 to 600"),
    "OpenAIRealtime.first_audio": (lambda value: OpenAIRealtime(KEY, first_audio=value), "from 0.1 to 600"),
    "OpenAIRealtime.between": (lambda value: OpenAIRealtime(KEY, between=value), "from 0.1 to 600"),
    "OpenAIRealtime.renew_after": (lambda value: OpenAIRealtime(KEY, renew_after=value), "from 1 to 3600"),
    "ElevenLabsTTS.timeout": (lambda value: ElevenLabsTTS(KEY, timeout=value), "from 0.1 to 600"),
    "ElevenLabsTTS.inactivity_timeout": (lambda value: ElevenLabsTTS(KEY, inactivity_timeout=value), "from 5 to 180"),
    "DeepgramSTT.eot_timeout_ms": (lambda value: DeepgramSTT(KEY, eot_timeout_ms=value), "from 500 to 60000"),
    "PiperTTS.length_scale": (lambda value: PiperTTS(length_scale=value), "above 0"),
    "WhisperSTT.interim_every": (lambda value: WhisperSTT(interim_every=value), "None for no interim results"),
    "SileroVAD.threshold": (lambda value: SileroVAD(threshold=value), "above 0 and below 1"),
}


@pytest.mark.parametrize(("make", "said"), NO_ZERO.values(), ids=NO_ZERO.keys())
@pytest.mark.parametrize("value", [0, -1, math.nan, True, "5"], ids=["zero", "negative", "nan", "bool", "text"])
def test_duration_of_zero_is_refused(make: Callable[[Any], Any], said: str, value: Any) -> None:
    """A duration of 0, which could mean "at once" or "never", is refused; the error says how "never" is written."""
    with pytest.raises(ConfigurationError, match=said):
        make(value)


async def test_lag_of_zero_is_refused() -> None:
    """serve(max_lag=0), which would refuse each call, is an error that says how no limit is written."""
    agent = Agent("x", **PROVIDERS, llm=ScriptedLLM(["Yes."]))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match="max_lag must be a number of seconds above 0, or None for no limit, got 0"
    ):
        await Patter().serve(agent, 0, max_lag=0)


# The options of an agent and of ``serve`` for which 0 has a meaning that their descriptions give.
@pytest.mark.parametrize(
    ("owner", "option"),
    [
        (Agent, "barge_in_threshold_ms"),
        (Agent, "barge_in_min_words"),
        (Agent, "endpointing_ms"),
        (Patter.serve, "max_calls"),
        (Patter.serve, "drain_timeout"),
        (Patter.drain, "timeout"),
        (SileroVAD, "min_speech"),
        (SileroVAD, "min_silence"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__qualname__,
)
def test_meaning_of_zero_is_documented(owner: Any, option: str) -> None:
    """An option that accepts 0 says in its description what 0 does."""
    _, _, behind = (owner.__doc__ or "").partition(f" {option}: ")
    assert behind, option
    lines = behind.splitlines()
    own = [lines[0]]
    for line in lines[1:]:
        if line.strip() and line.startswith(" " * 12):
            own.append(line)
        else:
            break
    assert "0" in " ".join(own)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: Menu({"1": "x"}, prompt="x", timeout=3), "; it takes choices=, invalid=, prompt="),
        (lambda: Keypad(timeout=3), "; it takes interrupts=, max_digits=, pause="),
        (lambda: WarmTransfer("x", hold_music="a.wav"), " (did you mean hold_sound?)"),
        (lambda: IVRActivity(None, loops=3), "; it takes call_control=, loop_detector="),
        (lambda: Patter().call("+15550100003", caller_id="x"), "; it takes agent=, custom_params="),
        (lambda: schedule_interval(minutes=3), "; it takes callback=, nursery=, seconds="),
    ],
    ids=["menu", "keypad", "warm-transfer", "other-menus", "call", "schedule"],
)
def test_unknown_options_are_answered_with_known_ones(make: Callable[[], Any], hint: str) -> None:
    """An option of another library is an error that names the one that was meant, or else all."""
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument '[a-z_]+'{re.escape(hint)}"):
        make()

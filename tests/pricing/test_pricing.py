"""Prices: their sources, the lookup, an application's own prices, and the arithmetic."""

import logging
import re
from typing import Any

import pytest

from patter_trio import Patter
from patter_trio.errors import ConfigurationError
from patter_trio.pricing import (
    AMOUNTS,
    DEFAULT_PRICING,
    calculate_cached_savings,
    calculate_llm_cost,
    calculate_stt_cost,
    calculate_telephony_cost,
    calculate_tts_cost,
    merge_pricing,
    rates,
)

UNITS_PER_MILLION = 1_000_000
RATES = [
    pytest.param({**{key: value for key, value in rates.items() if key != "models"}, **rate}, id=f"{provider} {model}")
    for provider, rates in DEFAULT_PRICING.items()
    for model, rate in {"": {}, **rates.get("models", {})}.items()
]
TABLE: dict[str, dict[str, Any]] = {
    "acme": {
        "unit": "token",
        "input": 9.0,
        "output": 9.0,
        "models": {
            "m-1": {"input": 1.0, "output": 2.0},
            "m-1-mini": {"input": 0.5, "output": 1.0},
            "ear": {"unit": "minute", "price": 0.6},
            "gift": {"unit": "free"},
        },
    },
    "bare": {"unit": "token", "models": {"m-1": {"input": 1.0, "output": 2.0}}},
}


def llm(model: str, provider: str = "acme") -> float:
    return calculate_llm_cost(provider, model, UNITS_PER_MILLION, UNITS_PER_MILLION, pricing=TABLE)


# The list -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", RATES)
def test_every_price_has_its_source_and_its_date(rate: dict[str, Any]) -> None:
    """Each default price has a date, a source unless it is free, and a known unit."""
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", rate["as_of"])
    assert rate["source"].startswith("https://") or rate["unit"] == "free"
    assert rate["unit"] in AMOUNTS


def test_default_pricing_is_a_valid_table() -> None:
    """An absent or an empty table of prices leaves the default prices unchanged."""
    assert merge_pricing(None) == merge_pricing({}) == DEFAULT_PRICING


@pytest.mark.parametrize("provider", ["local", "on_message", "piper", "scripted", "whisper"])
def test_local_providers_cost_nothing_without_warning(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    """Providers that run on this machine cost nothing and log no warning."""
    assert calculate_stt_cost(provider, 3600) == calculate_tts_cost(provider, 9999) == 0
    assert calculate_llm_cost(provider, "any", 9999, 9999) == calculate_telephony_cost(provider, 3600) == 0
    assert not caplog.records


# Which price holds ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("m-1", 3.0),  # exact
        ("m-1-mini", 1.5),
        ("m-1-2026-01-01", 3.0),  # the longest listed name that it begins with
        ("m-1-mini-2026-01-01", 1.5),
        ("m-1-mi", 3.0),
        ("m-1.5", 18.0),  # another model, whatever its name begins with: the provider's own
        ("m", 18.0),
        ("", 18.0),
        ("ear", 18.0),  # is not billed in tokens
        ("gift", 0.0),
    ],
)
def test_price_lookup_prefers_model_then_prefix_then_default(
    model: str, cost: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The price lookup takes the exact model, then the longest prefix, then the provider's default."""
    assert llm(model) == pytest.approx(cost)
    assert not caplog.records


def test_missing_price_costs_zero_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Usage without a price costs nothing and logs one warning per provider, model and unit."""
    for _ in range(3):
        assert llm("m-2", "bare") == llm("x", "nobody") == 0
        assert calculate_stt_cost("bare", 60, TABLE, "ear") == 0
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, f"{which}: no price per {unit}, counting 0; set it in Patter(pricing=...)")
        for unit, which in (("token", "bare m-2"), ("token", "nobody x"), ("minute", "bare ear"))
    ]


# Your own -------------------------------------------------------------------------------------------------------------
def test_provider_price_covers_all_models_of_its_unit() -> None:
    """A price for a provider applies to all its models that use the same unit."""
    own = merge_pricing({"deepgram": {"price": 0.003}, "openai": {"input": 1.0, "output": 1.0}})
    assert calculate_stt_cost("deepgram", 60, own, "nova-3") == pytest.approx(0.003)
    assert calculate_stt_cost("deepgram", 60, own, "flux-general-en") == pytest.approx(0.003)
    assert calculate_llm_cost("openai", "gpt-4o", UNITS_PER_MILLION, UNITS_PER_MILLION, pricing=own) == pytest.approx(
        2.0
    )
    assert calculate_tts_cost("openai", 1000, own, "tts-1") == pytest.approx(0.015)


@pytest.mark.parametrize(
    "own", [{"audio_cache_read": 1.0}, {"cached_audio_input_per_token": 1e-6}], ids=["per million", "per token"]
)
def test_one_amount_leaves_the_others_as_listed(own: dict[str, float]) -> None:
    """One amount of a provider, per million tokens or per token, changes that amount for its models, and no other."""
    merged = merge_pricing({"openai_realtime": own})
    for model, listed in DEFAULT_PRICING["openai_realtime"]["models"].items():
        rate = merged["openai_realtime"]["models"][model]
        is_by_token = listed.get("unit", "token") == "token"
        assert rate == {"unit": "token", **listed, **({"audio_cache_read": 1.0} if is_by_token else {})}


@pytest.mark.parametrize("name", rates.PER_TOKEN)
def test_amounts_per_token_are_converted(name: str) -> None:
    """Each name of an amount per token stands for one per million, for a provider and for a model."""
    merged = merge_pricing({"acme": {"unit": "token", name: 2e-6, "models": {"m": {name: 3e-6}}}})["acme"]
    key = rates.PER_TOKEN[name]
    assert (merged[key], merged["models"]["m"][key]) == (pytest.approx(2.0), pytest.approx(3.0))
    with pytest.raises(ConfigurationError, match=f"got {name!r}"):
        merge_pricing({"acme": {"unit": "token", name: "free"}})


def test_model_price_covers_only_that_model() -> None:
    """A price for a model applies to that model only."""
    own = merge_pricing({"elevenlabs": {"models": {"eleven_v3": {"price": 0.08}, "mine": {"price": 0.2}}}})
    assert calculate_tts_cost("elevenlabs", 1000, own, "eleven_v3") == pytest.approx(0.08)
    assert calculate_tts_cost("elevenlabs", 1000, own, "mine") == pytest.approx(0.2)
    assert calculate_tts_cost("elevenlabs", 1000, own, "eleven_multilingual_v2") == pytest.approx(0.10)
    assert calculate_tts_cost("elevenlabs", 1000, own, "eleven_flash_v2_5") == pytest.approx(0.05)


def test_pricing_can_add_providers_and_price_free_ones() -> None:
    """A custom table can add unlisted providers and models and put a price on free ones."""
    own = merge_pricing(
        {
            "acme": {"unit": "token", "input": 0.5, "output": 1.5},
            "whisper": {"unit": "minute", "price": 0.001},
            "openai": {"models": {"gpt-4.1": {"input": 1.0}}},
            "vendor": {"models": {"m": {"unit": "1k_chars", "price": 0.02}}},
        }
    )
    assert calculate_llm_cost("acme", "any", UNITS_PER_MILLION, UNITS_PER_MILLION, pricing=own) == pytest.approx(2.0)
    assert calculate_stt_cost("whisper", 60, own, "base") == pytest.approx(0.001)
    assert calculate_llm_cost("openai", "gpt-4.1", UNITS_PER_MILLION, UNITS_PER_MILLION, pricing=own) == pytest.approx(
        9.0
    )
    assert calculate_tts_cost("vendor", 1000, own, "m") == pytest.approx(0.02)


def test_overrides_change_nothing_but_what_they_name() -> None:
    """An override changes its own provider's price only, and leaves the default table unchanged."""
    own = merge_pricing({"twilio": {"price": 0.01}})
    assert {key: value for key, value in own.items() if key != "twilio"} == {
        key: value for key, value in DEFAULT_PRICING.items() if key != "twilio"
    }
    own["deepgram"]["models"]["nova-3"]["price"] = 99.0
    assert merge_pricing(None)["deepgram"]["models"]["nova-3"]["price"] == 0.0048


@pytest.mark.parametrize(
    ("pricing", "message"),
    [
        ([], "pricing must be a dict, got list"),
        ({"deepgram": 0.005}, "pricing['deepgram'] must be a dict with a string as its key, got 0.005"),
        ({1: {}}, "pricing[1] must be a dict with a string as its key"),
        ({"deepgram": {"price": "0.005"}}, "pricing['deepgram']: 'price' must be an amount in USD of at least 0"),
        ({"deepgram": {"price": -1}}, "must be an amount in USD of at least 0, got -1"),
        ({"deepgram": {"price": float("nan")}}, "must be an amount in USD of at least 0, got nan"),
        ({"deepgram": {"price": True}}, "must be an amount in USD of at least 0, got True"),
        ({"deepgram": {"prise": 1}}, "amounts of the unit 'minute' must be among: price, inbound"),
        ({"openai": {"price": 1}}, "amounts of the unit 'token' must be among: input"),
        ({"acme": {"price": 1}}, "pricing['acme']: 'unit' must be one of minute, 1k_chars, token, free, got None"),
        ({"acme": {"unit": "hour", "price": 1}}, "pricing['acme']: 'unit' must be one of"),
        ({"whisper": {"price": 1}}, "amounts of the unit 'free' must be among: nothing, since it is free; got 'price'"),
        ({"deepgram": {"models": 3}}, "pricing['deepgram']['models'] must be a dict, got int"),
        (
            {"deepgram": {"models": {"nova-3": 3}}},
            "pricing['deepgram']['models']['nova-3'] must be a dict with a string as its key",
        ),
        ({"deepgram": {"models": {"nova-3": {"input": 3}}}}, "['models']['nova-3']: amounts of the unit"),
    ],
)
def test_invalid_pricing_is_refused_with_its_place(pricing: Any, message: str) -> None:
    """An invalid table of prices raises ConfigurationError that names the wrong place."""
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        Patter(pricing=pricing)


# The arithmetic -------------------------------------------------------------------------------------------------------
def test_stt_is_billed_per_second_tts_per_character() -> None:
    """STT is billed by the second and TTS by the character."""
    assert calculate_stt_cost("deepgram", 90, None, "nova-3") == pytest.approx(0.0072)
    assert calculate_stt_cost("openai", 60, model="whisper-1") == pytest.approx(0.006)
    assert calculate_tts_cost("elevenlabs", 250) == pytest.approx(0.0125)


def test_tokens_are_billed_each_at_its_rate() -> None:
    """Each kind of token (text, audio, input, output, cache read and write) is billed at its own rate."""
    assert calculate_llm_cost("openai", "gpt-4o-mini", 1000, 100) == pytest.approx(0.00021)
    assert calculate_llm_cost("anthropic", "claude-haiku-4-5-20251001", 0, 0, 1000, 2000) == pytest.approx(0.0026)
    assert calculate_llm_cost(
        "openai",
        "gpt-realtime",
        100,
        10,
        1000,
        audio_input_tokens=600,
        audio_output_tokens=1200,
        audio_cache_read_tokens=5000,
    ) == pytest.approx((100 * 4 + 10 * 16 + 1000 * 0.4 + 600 * 32 + 1200 * 64 + 5000 * 0.4) / UNITS_PER_MILLION)


def test_cached_tokens_default_to_the_input_rate() -> None:
    """Cached tokens without a rate of their own cost as much as other input tokens."""
    assert calculate_llm_cost(
        "groq", "llama-3.1-8b-instant", 0, 0, UNITS_PER_MILLION, UNITS_PER_MILLION
    ) == pytest.approx(0.10)
    assert calculate_cached_savings("groq", "llama-3.1-8b-instant", UNITS_PER_MILLION) == 0


def test_savings_are_what_caching_took_off() -> None:
    """The savings are the cached tokens times the difference of the rates, and never negative."""
    assert calculate_cached_savings("openai", "gpt-4.1", UNITS_PER_MILLION) == pytest.approx(1.5)
    assert calculate_cached_savings("openai", "gpt-realtime", 0, UNITS_PER_MILLION) == pytest.approx(31.6)
    dearer = {"acme": {"unit": "token", "input": 1.0, "cache_read": 2.0}}
    assert calculate_cached_savings("acme", "", UNITS_PER_MILLION, pricing=dearer) == 0


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0.0, 0), (0.1, 1), (60.0, 1), (60.0 + 1e-10, 1), (60.1, 2), (78.0, 2), (3600.0, 60)]
)
def test_twilio_minutes_round_up(seconds: float, minutes: int) -> None:
    """Twilio bills each begun minute, for call and media stream: 60.1 s count as two minutes."""
    assert calculate_telephony_cost("twilio", seconds) == pytest.approx(minutes * (0.0085 + 0.0044))
    assert calculate_telephony_cost("twilio", seconds, direction="outbound") == pytest.approx(
        minutes * (0.0140 + 0.0044)
    )


def test_carrier_price_covers_both_directions_plus_stream() -> None:
    """A custom carrier price applies in both directions, and the price of the stream is added to it."""
    own = merge_pricing({"twilio": {"price": 0.0220}})
    for direction in ("inbound", "outbound"):
        assert calculate_telephony_cost("twilio", 90, own, direction=direction) == pytest.approx(2 * 0.0264)
    whole = merge_pricing({"twilio": {"price": 0.01, "streams": 0, "round_up": False}})
    assert calculate_telephony_cost("twilio", 90, whole) == pytest.approx(0.015)


def test_telnyxs_minutes_have_no_list_price() -> None:
    """Without a dated source, Telnyx's minutes count 0, which means unknown; a price of the user counts."""
    assert "telnyx" not in DEFAULT_PRICING
    assert calculate_telephony_cost("telnyx", 60.0) == 0.0
    own = merge_pricing({"telnyx": {"unit": "minute", "inbound": 0.01, "outbound": 0.02, "streams": 0.005}})
    assert calculate_telephony_cost("telnyx", 60.0, own, direction="inbound") == pytest.approx(0.015)
    assert calculate_telephony_cost("telnyx", 90.0, own, direction="outbound") == pytest.approx(0.0375)

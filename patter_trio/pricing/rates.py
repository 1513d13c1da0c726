"""Calculation of costs: list prices, your own prices in their place, and the arithmetic.

The lookup takes the rate of the model's exact name, else of the longest listed name that is a prefix of it (up to a
``-``, ``_``, ``:``, ``@`` or ``/``, so that ``gpt-5`` is not the price of ``gpt-5.5``), else the provider's own rate.
Without any rate the cost is 0, and the log says so once. All amounts are USD.
"""

import logging
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from patter_trio.errors import ConfigurationError, full_name
from patter_trio.pricing.list_prices import PRICES

Pricing = Mapping[str, Mapping[str, Any]]
"""Rates by provider; ``pricing/list_prices.py`` explains the keys."""

DEFAULT_PRICING: Final[Pricing] = PRICES
"""The list prices, each with ``source`` and ``as_of``."""
# The one list of valid keys: _check() refuses all others, because a misspelt amount would silently count as 0.
AMOUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "minute": ("price", "inbound", "outbound", "streams"),
    "1k_chars": ("price",),
    "token": ("input", "output", "cache_read", "cache_write", "audio_input", "audio_output", "audio_cache_read"),
    "free": (),
}
"""Amounts that each unit allows."""
# Vendors state prices of tokens per million.
UNITS_PER_MILLION: Final = 1_000_000
# As getpatter has them, whose programs migrate with their prices.
PER_TOKEN: Final[Mapping[str, str]] = {
    "input_per_token": "input",
    "output_per_token": "output",
    "cached_input_per_token": "cache_read",
    "text_input_per_token": "input",
    "text_output_per_token": "output",
    "cached_text_input_per_token": "cache_read",
    "audio_input_per_token": "audio_input",
    "audio_output_per_token": "audio_output",
    "cached_audio_input_per_token": "audio_cache_read",
}
"""Names of amounts per token, and those per million tokens that they stand for."""

_ALL_AMOUNTS: Final = frozenset(key for keys in AMOUNTS.values() for key in keys)
_DESCRIPTIONS: Final = frozenset({"unit", "source", "as_of", "round_up"})
# What vendors put between a model's name and its date, size, tag or host.
_BORDERS: Final = "-_:@/"
_log = logging.getLogger("patter_trio.telemetry")


# Your own prices ------------------------------------------------------------------------------------------------------
def merge_pricing(overrides: Pricing | None) -> dict[str, dict[str, Any]]:
    """Return the list prices with your own in their place.

    ::

        Patter(pricing={
            "deepgram": {"price": 0.0042},                               # for every model
            "elevenlabs": {"models": {"eleven_v3": {"price": 0.08}}},    # for this model only
            "acme": {"unit": "token", "input": 0.5, "output": 1.5},      # a provider that is not listed
            "openai_realtime": {"cached_audio_input_per_token": 1e-6},   # one amount, per token instead of per million
        })

    An amount for a provider applies to all its models that are billed in that unit. A carrier's ``price`` applies to
    both directions. An amount for a model applies only to that model. Everything else stays as listed. Amounts of
    tokens may also be given for a single token, by the names of :data:`PER_TOKEN`.

    Raises:
        ConfigurationError: ``overrides`` is not a valid table of prices; the message names the entry.
    """
    # A copy for each phone: the list is shared by the process, and one phone's prices are not another's.
    merged = {provider: _copied(rates) for provider, rates in DEFAULT_PRICING.items()}
    for provider, own in _table({} if overrides is None else overrides, "pricing").items():
        where = f"pricing[{provider!r}]"
        rates = merged[provider] = _merged(merged.get(provider, {}), own, where)
        # After the merge, because an override need not repeat the unit that is listed.
        _check(rates, rates.get("unit"), where)
        for model, rate in rates.get("models", {}).items():
            _check(rate, rate.get("unit", rates.get("unit")), f"{where}['models'][{model!r}]")
    return merged


def _table(value: object, where: str) -> dict[str, dict[str, Any]]:
    """Return ``value`` as a dict of dicts after checking its types."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} must be a dict, got {type(value).__name__}: {value!r}")
    for name, inner in value.items():
        if not isinstance(name, str) or not isinstance(inner, Mapping):
            raise ConfigurationError(f"{where}[{name!r}] must be a dict with a string as its key, got {inner!r}")
    return {name: _per_million(inner) for name, inner in value.items()}


def _per_million(rates: Mapping[str, Any]) -> dict[str, Any]:
    """Return rates with amounts per million tokens in the place of those per token."""
    converted = {}
    for key, amount in rates.items():
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        # Anything but a number stays as it is, under the name that was given: the check names it.
        if key in PER_TOKEN and is_number:
            converted[PER_TOKEN[key]] = amount * UNITS_PER_MILLION
        else:
            converted[key] = amount
    return converted


def _copied(rates: Mapping[str, Any]) -> dict[str, Any]:
    models = {name: dict(rate) for name, rate in rates.get("models", {}).items()}
    return {**rates, "models": models} if models else dict(rates)


def _merged(listed: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    general = {key: value for key, value in own.items() if key != "models"}
    models = {name: {"unit": listed.get("unit"), **rate} for name, rate in listed.get("models", {}).items()}
    result = {key: value for key, value in listed.items() if key != "models"}
    # A provider's own amounts take the place of those listed for its models in that unit; the others stay, because an
    # amount that is missing would count as 0. A change of unit, or a carrier's single price, also makes listed amounts
    # obsolete.
    if general.keys() & (_ALL_AMOUNTS | {"unit"}):
        unit = general.get("unit", listed.get("unit"))
        amounts = {key: value for key, value in general.items() if key in _ALL_AMOUNTS}
        models = {name: {**rate, **amounts} if rate["unit"] == unit else rate for name, rate in models.items()}
        outdated = _ALL_AMOUNTS if unit != listed.get("unit") else {"inbound", "outbound"} if "price" in own else set()
        result = {key: value for key, value in result.items() if key not in outdated}
    result |= general
    for name, rate in _table(own.get("models", {}), f"{where}['models']").items():
        models[name] = {**models.get(name, {}), **rate}
    return {**result, "models": models} if models else result


def _check(rates: Mapping[str, Any], unit: object, where: str) -> None:
    amounts = {key: value for key, value in rates.items() if key not in _DESCRIPTIONS and key != "models"}
    if unit not in AMOUNTS and (amounts or unit is not None):
        raise ConfigurationError(f"{where}: 'unit' must be one of {', '.join(AMOUNTS)}, got {unit!r}")
    for key, value in amounts.items():
        if key not in AMOUNTS[str(unit)]:
            known = ", ".join(AMOUNTS[str(unit)]) or "nothing, since it is free"
            raise ConfigurationError(f"{where}: amounts of the unit {unit!r} must be among: {known}; got {key!r}")
        # bool is a subclass of int. The upper bound keeps out infinity, and the comparison NaN.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigurationError(f"{where}: {key!r} must be an amount in USD of at least 0, got {value!r}")


# Costs ----------------------------------------------------------------------------------------------------------------
def calculate_stt_cost(
    provider: str, audio_seconds: float, pricing: Pricing | None = None, model: str | None = None
) -> float:
    """Return the cost of recognising ``audio_seconds`` seconds of audio."""
    # Not rounded up: STT vendors bill by the second or less.
    return audio_seconds / 60 * _amount(_rate(provider, model, "minute", pricing), "price")


def calculate_tts_cost(
    provider: str, character_count: int, pricing: Pricing | None = None, model: str | None = None
) -> float:
    """Return the cost of synthesising ``character_count`` characters."""
    return character_count / 1000 * _amount(_rate(provider, model, "1k_chars", pricing), "price")


def calculate_llm_cost(  # noqa: PLR0917 (programs pass these by position)
    provider: str,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    *,
    audio_input_tokens: int = 0,
    audio_output_tokens: int = 0,
    audio_cache_read_tokens: int = 0,
    pricing: Pricing | None = None,
) -> float:
    """Return the cost of these tokens; each is counted once, so tokens read from a cache are not input tokens as well.

    Cached tokens cost as much as others if the table has no rate for them.
    """
    rate = _rate(provider, model, "token", pricing)
    text, audio = _amount(rate, "input"), _amount(rate, "audio_input")
    return (
        input_tokens * text
        + output_tokens * _amount(rate, "output")
        # The default is the full price: too high rather than too low, if a table does not know the discount.
        + cache_read_tokens * _amount(rate, "cache_read", text)
        + cache_write_tokens * _amount(rate, "cache_write", text)
        + audio_input_tokens * audio
        + audio_output_tokens * _amount(rate, "audio_output")
        + audio_cache_read_tokens * _amount(rate, "audio_cache_read", audio)
    ) / UNITS_PER_MILLION


def calculate_cached_savings(
    provider: str,
    model: str,
    cache_read_tokens: int,
    audio_cache_read_tokens: int = 0,
    *,
    pricing: Pricing | None = None,
) -> float:
    """Return how much more the cached tokens would have cost without the cache."""
    rate = _rate(provider, model, "token", pricing)
    text, audio = _amount(rate, "input"), _amount(rate, "audio_input")
    saved = cache_read_tokens * (text - _amount(rate, "cache_read", text))
    saved += audio_cache_read_tokens * (audio - _amount(rate, "audio_cache_read", audio))
    # Not negative, should an own price list make cached tokens dearer than others.
    return max(0.0, saved) / UNITS_PER_MILLION


def calculate_telephony_cost(
    provider: str, duration_seconds: float, pricing: Pricing | None = None, *, direction: str = "inbound"
) -> float:
    """Return a carrier's price for a call of this length, its media stream included.

    Args:
        provider: the carrier.
        duration_seconds: length of the call. If the table says ``round_up``, as for Twilio, each started minute is
            charged.
        pricing: as :func:`merge_pricing` returns it; default: list prices.
        direction: ``inbound`` or ``outbound``.
    """
    rate = _rate(provider, None, "minute", pricing)
    minutes = duration_seconds / 60
    if rate.get("round_up"):
        minutes = math.ceil(round(minutes, 9))  # clock arithmetic can give 60.000000001 s: one minute
    return minutes * (_amount(rate, direction, _amount(rate, "price")) + _amount(rate, "streams"))


def _amount(rate: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    return float(rate.get(key, default))


def _rate(provider: str, model: str | None, unit: str, pricing: Pricing | None) -> Mapping[str, Any]:
    """Return the rate per ``unit``; an empty one if it is free or unknown."""
    rates = (DEFAULT_PRICING if pricing is None else pricing).get(provider, {})
    general = rates.get("unit")
    # By unit: one vendor sells models by the minute, by the character and by the token, under names that overlap.
    models: dict[str, Mapping[str, Any]] = {
        name: rate for name, rate in rates.get("models", {}).items() if rate.get("unit", general) in (unit, "free")
    }
    name = model or ""
    # The exact name first: a dated model may have a price of its own.
    if name in models:
        return models[name]
    listed = [key for key in models if name.startswith(key) and name[len(key)] in _BORDERS]
    if listed:
        # The longest, because it is the most exact: gpt-4o-mini-2024-07-18 is a gpt-4o-mini before it is a gpt-4o.
        return models[max(listed, key=len)]
    # A provider whose rates are all at its models has no rate of its own.
    if general == "free" or (general == unit and rates.keys() & _ALL_AMOUNTS):
        return rates
    # A missing price must not fail a call, so it counts as 0 and is logged.
    _log_missing_price(full_name(provider, name) or "a provider without a name", unit)
    return {}


# Once per process: the same price is missing in every call, and in each of its turns.
@cache
def _log_missing_price(which: str, unit: str) -> None:
    _log.warning("%s: no price per %s, counting 0; set it in Patter(pricing=...)", which, unit)

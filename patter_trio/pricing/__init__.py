"""The cost of calls: list prices, and your own prices in their place."""

from patter_trio.pricing.rates import (
    AMOUNTS,
    DEFAULT_PRICING,
    UNITS_PER_MILLION,
    Pricing,
    calculate_cached_savings,
    calculate_llm_cost,
    calculate_stt_cost,
    calculate_telephony_cost,
    calculate_tts_cost,
    merge_pricing,
)

__all__ = [
    "AMOUNTS",
    "DEFAULT_PRICING",
    "UNITS_PER_MILLION",
    "Pricing",
    "calculate_cached_savings",
    "calculate_llm_cost",
    "calculate_stt_cost",
    "calculate_telephony_cost",
    "calculate_tts_cost",
    "merge_pricing",
]

"""What one call has cost so far: by what its providers reported, and by an estimate where they report nothing.

Prices are linear, so that sums are kept and each is priced once, however long the call is. The estimates:

* recognition: all of the call from the first frame on, silence included, as recognisers bill an open stream;
* synthesis: the characters that were handed over, also of what the caller never heard;
* a mind: :data:`CHARACTERS_PER_TOKEN` characters are a token; asked with the system prompt and the conversation so far.

What a provider reported for a reply takes the place of the estimate for that reply; what it reported outside any reply
takes the place of all estimates of its stage.
"""

from typing import Final, Literal

import attrs

from patter_trio import pricing as prices
from patter_trio.abc import Usage
from patter_trio.metrics.results import CostBreakdown

CHARACTERS_PER_TOKEN: Final = 4
"""OpenAI's rule of thumb for English: https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them"""

Counted = Literal["asked", "said", "spoken"]
_STAGE_OF: Final = {"asked": "llm", "said": "llm", "spoken": "tts"}
_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "audio_cache_read_tokens",
)
_SUMMED: Final = (*_TOKENS, "seconds", "characters")


@attrs.define
class _Reported:
    """The sum of what was reported for one stage and one model."""

    amounts: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(_SUMMED, 0))
    cost: float = 0.0

    def add(self, usage: Usage) -> None:
        if usage.cost is not None:
            self.cost += usage.cost
            return
        for name in _SUMMED:
            self.amounts[name] += getattr(usage, name)


class Bill:
    """The costs of one call.

    Args:
        pricing: as :func:`~patter_trio.pricing.merge_pricing` returns it; None: list prices.
        carrier: whose call it is.
        direction: ``inbound`` or ``outbound``.
    """

    def __init__(self, pricing: prices.Pricing | None, carrier: str, direction: str) -> None:
        self._pricing = pricing
        self._carrier = carrier
        self._direction = direction
        self.names: dict[str, str] = {}
        """``stt_provider``, ``stt_model`` and so on, as the call has them."""
        self._reported: dict[tuple[str, str], _Reported] = {}
        self._billed: set[tuple[str, int | None]] = set()
        """Stage and reply (None: outside any) for which something was reported."""
        self._counts: dict[int, dict[Counted, int]] = {}
        self._estimated: dict[Counted, int] = {"asked": 0, "said": 0, "spoken": 0}

    def count(self, reply: int, what: Counted, characters: int) -> None:
        """Take note of characters: of a prompt, of what the mind said, or of what was handed to the synthesiser."""
        counts = self._counts.setdefault(reply, {"asked": 0, "said": 0, "spoken": 0})
        counts[what] += characters
        if (_STAGE_OF[what], reply) not in self._billed:
            self._estimated[what] += characters

    def used(self, reply: int | None, usage: Usage) -> None:
        """Take note of what a provider reported."""
        self._reported.setdefault((usage.stage, usage.model), _Reported()).add(usage)
        if (usage.stage, reply) in self._billed:
            return
        self._billed.add((usage.stage, reply))
        for what, characters in (self._counts.get(reply, {}) if reply is not None else {}).items():
            if _STAGE_OF[what] == usage.stage:
                self._estimated[what] -= characters

    def total(self, call_seconds: float, audio_seconds: float) -> CostBreakdown:
        """Return the costs of a call that is so long, with so much audio of the caller."""
        spent = dict.fromkeys(("stt", "tts", "llm"), 0.0)
        saved = 0.0
        for (stage, model), reported in self._reported.items():
            spent[stage] += self._priced(stage, model, reported)
            saved += self._saved(model, reported) if stage == "llm" else 0.0
        for estimate in self._estimates(audio_seconds):
            if self.names.get(f"{estimate.stage}_provider") == "":
                continue  # an engine has no recogniser, and need not have another voice
            if (estimate.stage, None) not in self._billed:
                sums = _Reported()
                sums.add(estimate)
                spent[estimate.stage] += self._priced(estimate.stage, "", sums)
        telephony = prices.calculate_telephony_cost(
            self._carrier, call_seconds, self._pricing, direction=self._direction
        )
        total = spent["stt"] + spent["tts"] + spent["llm"] + telephony
        return CostBreakdown(**spent, telephony=telephony, total=total, llm_cached_savings=saved)

    def _estimates(self, audio_seconds: float) -> tuple[Usage, ...]:
        tokens = {what: self._estimated[what] // CHARACTERS_PER_TOKEN for what in ("asked", "said")}
        return (
            Usage(stage="stt", seconds=audio_seconds),
            Usage(stage="tts", characters=self._estimated["spoken"]),
            Usage(stage="llm", input_tokens=tokens["asked"], output_tokens=tokens["said"]),
        )

    def _name(self, stage: str, model: str) -> tuple[str, str]:
        provider = self.names.get(f"{stage}_provider", "")
        if model and not provider:  # of an engine, which is the mind's name
            provider = self.names.get("llm_provider", "")
        return provider, model or self.names.get(f"{stage}_model", "")

    def _priced(self, stage: str, model: str, reported: _Reported) -> float:
        provider, model = self._name(stage, model)
        amounts, cost = reported.amounts, reported.cost
        if amounts["seconds"]:
            cost += prices.calculate_stt_cost(provider, amounts["seconds"], self._pricing, model)
        if amounts["characters"]:
            cost += prices.calculate_tts_cost(provider, int(amounts["characters"]), self._pricing, model)
        tokens = {name: int(amounts[name]) for name in _TOKENS}
        if any(tokens.values()):
            cost += prices.calculate_llm_cost(provider, model, pricing=self._pricing, **tokens)
        return cost

    def _saved(self, model: str, reported: _Reported) -> float:
        text, audio = int(reported.amounts["cache_read_tokens"]), int(reported.amounts["audio_cache_read_tokens"])
        provider, model = self._name("llm", model)
        if not (text or audio):
            return 0.0
        return prices.calculate_cached_savings(provider, model, text, audio, pricing=self._pricing)

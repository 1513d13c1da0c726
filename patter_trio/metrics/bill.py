"""The cost of one call so far: from the usage that its providers report, and from estimates where they report none.

Prices are linear, so the bill keeps sums and prices each of them once, however long the call is. The estimates:

* STT: the whole call from the first frame on, silence included, because STT providers bill an open stream;
* TTS: the characters that were sent to it, including those that the caller never heard;
* LLM: one token for :data:`CHARACTERS_PER_TOKEN` characters; a request has the system prompt and the conversation so
  far.

Usage reported for a reply replaces the estimate for that reply, for each side of an LLM on its own: some servers report
zeros for one of them. Usage reported outside any reply replaces all estimates
of its stage.
"""

from collections.abc import Iterator
from typing import Final, Literal

import attrs

from patter_trio import pricing as prices
from patter_trio.abc import Usage
from patter_trio.metrics.internal_events import AgentReady
from patter_trio.metrics.results import CostBreakdown

# An estimate for providers that report nothing; reported usage replaces it.
CHARACTERS_PER_TOKEN: Final = 4
"""OpenAI's rule of thumb for English: https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them"""

Counted = Literal["asked", "said", "spoken"]
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
    """The sum of the usage reported for one stage and one model."""

    amounts: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(_SUMMED, 0))
    cost: float = 0.0

    def add(self, usage: Usage) -> None:
        if usage.cost is not None:  # a cost that the provider states needs no price list
            self.cost += usage.cost
            return
        for name in _SUMMED:
            self.amounts[name] += getattr(usage, name)


def _counted_in(usage: Usage) -> Iterator[Counted]:
    """Yield the estimates whose place a report takes. Tokens of 0 say nothing: every request has a prompt."""
    if usage.stage == "tts":
        yield "spoken"
    if usage.stage == "llm":
        stated = usage.cost is not None
        if stated or any(getattr(usage, name) for name in _TOKENS if "output" not in name):
            yield "asked"
        if stated or usage.output_tokens or usage.audio_output_tokens:
            yield "said"


class Bill:
    """The costs of one call.

    Args:
        pricing: the result of :func:`~patter_trio.pricing.merge_pricing`; None for list prices.
        carrier: the carrier's name.
        direction: ``inbound`` or ``outbound``.
    """

    def __init__(self, pricing: prices.Pricing | None, carrier: str, direction: str) -> None:
        self._pricing = pricing
        self._carrier = carrier
        self._direction = direction
        self.names: dict[str, str] = {}
        """The names of the call's providers and models: ``stt_provider``, ``stt_model`` and so on."""
        self._reported: dict[tuple[str, str], _Reported] = {}
        self._billed: set[tuple[str, int | None]] = set()
        """Stage and reply (None: outside any reply) for which usage was reported."""
        self._replaced: set[tuple[Counted, int]] = set()
        """Estimates, by what they count and the reply, whose place reported usage has taken."""
        self._counts: dict[int, dict[Counted, int]] = {}
        self._telephony: float | None = None
        """What the carrier charges; None: it has not said so."""
        self._estimated: dict[Counted, int] = {"asked": 0, "said": 0, "spoken": 0}

    def name_providers(self, ready: AgentReady) -> None:
        """Take the names of the call's providers and models, by which their prices are found."""
        self.names = {
            "stt_provider": ready.stt_provider,
            "stt_model": ready.stt_model,
            "tts_provider": ready.tts_provider,
            "tts_model": ready.tts_model,
            "llm_provider": ready.llm_provider,
            "llm_model": ready.llm_model,
        }

    def charged(self, cost_usd: float) -> None:
        """Take what the carrier says that it charges, in the place of the estimate."""
        self._telephony = cost_usd

    def count(self, reply: int, what: Counted, characters: int) -> None:
        """Count characters: of a request to the LLM (asked), of its answer (said), or of text for the TTS (spoken)."""
        counts = self._counts.setdefault(reply, {"asked": 0, "said": 0, "spoken": 0})
        counts[what] += characters
        if (what, reply) not in self._replaced:
            self._estimated[what] += characters

    def used(self, reply: int | None, usage: Usage) -> None:
        """Add usage that a provider reported for a reply, or outside any reply (None)."""
        self._reported.setdefault((usage.stage, usage.model), _Reported()).add(usage)
        self._billed.add((usage.stage, reply))
        if reply is None:
            return
        # The first report for a reply replaces its estimate so far; count() adds nothing to it from here on.
        for what in _counted_in(usage):
            if (what, reply) not in self._replaced:
                self._replaced.add((what, reply))
                self._estimated[what] -= self._counts.get(reply, {}).get(what, 0)

    def total(self, call_seconds: float, audio_seconds: float) -> CostBreakdown:
        """Return the costs of a call of ``call_seconds`` with ``audio_seconds`` of the caller's audio."""
        spent = dict.fromkeys(("stt", "tts", "llm"), 0.0)
        saved = 0.0
        for (stage, model), reported in self._reported.items():
            spent[stage] += self._priced(stage, model, reported)
            saved += self._saved(model, reported) if stage == "llm" else 0.0
        for estimate in self._estimates(audio_seconds):
            if self.names.get(f"{estimate.stage}_provider") == "":
                continue  # an empty name: a call with an engine has no STT, and may have no TTS
            # Usage outside of any reply comes from a provider that reports for the whole call, such as an STT.
            if (estimate.stage, None) not in self._billed:
                sums = _Reported()
                sums.add(estimate)
                spent[estimate.stage] += self._priced(estimate.stage, "", sums)
        telephony = self._telephony
        if telephony is None:
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
        if model and not provider:  # reported by an engine, whose name stands under llm_provider
            provider = self.names.get("llm_provider", "")
        # A report names its model; an estimate has none, and takes that of the call.
        return provider, model or self.names.get(f"{stage}_model", "")

    def _priced(self, stage: str, model: str, reported: _Reported) -> float:
        provider, model = self._name(stage, model)
        amounts, cost = reported.amounts, reported.cost
        # Only amounts above 0: a look-up of a price that is missing logs a warning, and needs a reason for it.
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

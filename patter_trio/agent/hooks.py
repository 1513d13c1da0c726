"""Hooks: the application's functions between the stages of a call, and what may be changed there.

In the order in which data meets them::

    caller's audio   before_send_to_stt -> before_stt -> [recogniser]
    words            after_stt (each result) -> [end of turn] -> after_transcribe (once per committed turn)
    question         before_llm -> [language model]
    answer           after_llm.on_chunk -> after_llm.on_response -> [sentences] -> after_llm.on_sentence
                     -> text transforms -> guardrails -> before_synthesize -> before_tts -> [synthesiser]
    agent's audio    after_tts -> after_synthesize -> caller

A hook that raises, gives the wrong type or does not return in time changes nothing: there is one log line, and what it
was given passes. What None means, and how long each may take, is in :data:`TIERS` and docs/hooks.md.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.user_code.signatures import parameters_of


class PatterDeprecationWarning(DeprecationWarning, UserWarning):
    """Something still works and will not for ever; shown by default, as it is a ``UserWarning`` too."""


@dataclass(frozen=True)
class HookContext:
    """Which call a hook is asked about."""

    call_id: str
    caller: str
    """E.164."""
    callee: str
    """E.164."""
    history: tuple[dict[str, Any], ...] = ()
    """The newest 200 entries of the conversation so far: role, text and timestamp (Unix seconds). Copies."""


@attrs.frozen
class Tier:
    """How long a hook may take, in seconds, and with what it is called beside the context."""

    budget: float
    """Slower is warned about, once per call. Chosen so that a caller does not notice."""
    deadline: float
    """Not back by then: cancelled, and what it was given passes. Any one alone stays far below the 15 s after which a
    reply that has no audio is given up."""
    values: tuple[str, ...]
    """Its arguments; ``ctx`` follows them, if it takes one."""
    often: bool = False
    """Asked many times a second: after the first missed deadline it is not asked again in its call, and only the first
    of its failures is logged."""


TIERS: Final[Mapping[str, Tier]] = {
    "before_send_to_stt": Tier(0.005, 0.25, ("pcm",), often=True),
    "before_stt": Tier(0.005, 0.25, ("pcm",), often=True),
    "after_stt": Tier(0.05, 1.0, ("transcript",)),
    "after_transcribe": Tier(0.3, 3.0, ("text",)),
    "before_llm": Tier(0.5, 5.0, ("messages",)),
    "after_llm.on_chunk": Tier(0.001, 0.25, ("chunk",), often=True),
    "after_llm.on_response": Tier(2.0, 6.0, ("text",)),
    "after_llm.on_sentence": Tier(0.3, 3.0, ("sentence",)),
    "text_transforms": Tier(0.005, 1.0, ("text",)),
    "guardrails": Tier(0.3, 3.0, ("text",)),
    "before_synthesize": Tier(0.1, 2.0, ("text",)),
    "before_tts": Tier(0.1, 2.0, ("text",)),
    "after_tts": Tier(0.005, 0.25, ("pcm", "text"), often=True),
    "after_synthesize": Tier(0.005, 0.25, ("pcm", "text"), often=True),
}
"""Every hook, in the order in which data meets them."""

AFTER_LLM: Final = ("on_chunk", "on_sentence", "on_response")
_CONTEXT_PARAMETERS: Final = ("ctx", "context")


@attrs.frozen
class Hook:
    """One function of the application's, and what it wants to be given."""

    name: str
    """As in :data:`TIERS`, with a number or name behind it where there are several: ``text_transforms[0]``."""
    function: Callable[..., Any]
    tier: Tier
    positional: tuple[str, ...]
    """What it is given by position."""
    keywords: tuple[str, ...] = ()
    """Names under which it is given the context."""

    def arguments(
        self, values: Sequence[object], context: Callable[[], HookContext]
    ) -> tuple[list[object], dict[str, object]]:
        """Return what it is called with: as much of ``values`` and the context as it takes."""
        given = dict(zip(self.tier.values, values, strict=True))
        positional = [context() if name == "ctx" else given[name] for name in self.positional]
        return positional, {name: context() for name in self.keywords}


def hook_of(name: str, function: object, *, label: str = "") -> Hook:
    """Look at a function's signature, once, and return it as the hook ``name``.

    It may take its values in order, fewer of them, and the context behind them or under the name ``ctx``. A parameter
    that has a default gets the context only under that name: it may be for something else.

    Raises:
        ConfigurationError: it is no function, or one that cannot be called so.
    """
    label = label or name
    tier = TIERS[name]
    if not callable(function):
        raise ConfigurationError(f"{label} must be a function, not {type(function).__name__}: {function!r}")
    parameters = parameters_of(function)
    if parameters is None:
        return Hook(label, function, tier, tier.values[:1])
    positional, keywords = _wanted(parameters, tier.values)
    if len(positional) > len(tier.values) + 1 or "" in (*positional, *keywords) or not positional:
        shape = ", ".join(tier.values)
        shown = getattr(function, "__qualname__", None) or repr(function)
        raise ConfigurationError(f"{label} is called with ({shape}) or ({shape}, ctx); {shown} cannot be")
    return Hook(label, function, tier, tuple(positional), tuple(keywords))


def _wanted(parameters: list[inspect.Parameter], values: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return what to pass by position and what by name; an empty name is one that we cannot give."""
    offered = [*values, "ctx"]
    positional: list[str] = []
    keywords: list[str] = []
    for parameter in parameters:
        required = parameter.default is parameter.empty
        context = parameter.name in _CONTEXT_PARAMETERS or parameter.annotation in (HookContext, "HookContext")
        place = len(positional)
        match parameter.kind:
            case parameter.VAR_POSITIONAL:
                positional += offered[place:]
            case parameter.VAR_KEYWORD:
                pass
            case parameter.KEYWORD_ONLY:
                if context or required:
                    keywords.append(parameter.name if context else "")
            case _ if context and place:
                positional.append("ctx")
            case _ if "ctx" in positional or place >= len(offered):
                positional += [""] if required else []
            case _ if required or place < len(values):
                positional.append(offered[place])
    return positional, keywords


@attrs.frozen(kw_only=True)
class PipelineHooks:
    """Functions that see, change or drop what passes between the stages; sync or async, each with or without ``ctx``.

    ``after_llm`` takes a dict with ``on_chunk``, ``on_sentence`` and ``on_response``, or an object with such
    attributes. A plain function ``(text, ctx)`` is the older form of ``on_response``.

    Raises:
        ConfigurationError: a hook is no function, or cannot be called with what it would get; ``after_llm`` has a key
            that there is not.
    """

    before_send_to_stt: Callable[..., Any] | None = None
    """``(pcm, ctx) -> bytes | None``: the caller's audio on its way to the recogniser; None: silence instead."""
    before_stt: Callable[..., Any] | None = None
    """The same, directly behind it."""
    after_stt: Callable[..., Any] | None = None
    """``(transcript, ctx) -> Transcript | str | None``: each result, ``.text`` and ``.final``; None: no words."""
    after_transcribe: Callable[..., Any] | None = None
    """``(text, ctx) -> str | None``: the words of a turn; None: no turn."""
    before_llm: Callable[..., Any] | None = None
    """``(messages, ctx) -> list | None``: what the model is asked; None: unchanged."""
    after_llm: Any = None
    """See above."""
    before_synthesize: Callable[..., Any] | None = None
    """``(text, ctx) -> str | None``: a sentence before it is spoken; None: it is not."""
    before_tts: Callable[..., Any] | None = None
    """The same, directly behind it."""
    after_tts: Callable[..., Any] | None = None
    """``(pcm, text, ctx) -> bytes | None``: the agent's audio, and the sentence that it is of; None: not heard."""
    after_synthesize: Callable[..., Any] | None = None
    """The same, directly behind it."""
    compiled: Mapping[str, Hook] = attrs.field(init=False, eq=False, repr=False)
    """The hooks that are set, by their names in :data:`TIERS`."""

    def __attrs_post_init__(self) -> None:
        """Inspect each hook."""
        given = {name: getattr(self, name) for name in TIERS if hasattr(type(self), name)}
        given |= {f"after_llm.{tier}": function for tier, function in _tiers(self.after_llm).items()}
        hooks = {name: hook_of(name, function) for name, function in given.items() if function is not None}
        object.__setattr__(self, "compiled", hooks)


def _tiers(after_llm: Any) -> Mapping[str, Any]:
    """Return the functions of ``after_llm``, whichever form it has."""
    if after_llm is None:
        return {}
    if isinstance(after_llm, Mapping):
        unknown = sorted(str(key) for key in after_llm if key not in AFTER_LLM)
        if unknown:
            raise ConfigurationError(f"after_llm has {', '.join(AFTER_LLM)}, not {', '.join(unknown)}")
        return after_llm
    found = {tier: getattr(after_llm, tier) for tier in AFTER_LLM if hasattr(after_llm, tier)}
    if found:
        return found
    if not callable(after_llm):
        raise ConfigurationError(
            f"after_llm must be a dict or an object with {', '.join(AFTER_LLM)}, "
            f"not {type(after_llm).__name__}: {after_llm!r}"
        )
    warnings.warn(
        'after_llm=function is deprecated; write after_llm={"on_response": function}',
        PatterDeprecationWarning,
        stacklevel=4,  # whoever makes the PipelineHooks
    )
    return {"on_response": after_llm}

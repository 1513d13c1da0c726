"""Hooks: the application's functions between the stages of a call, which may change or drop what passes.

In the order in which data reaches them::

    caller's audio   before_send_to_stt -> before_stt -> [STT]
    words            after_stt (each result) -> [end of turn] -> after_transcribe (once per committed turn)
    question         before_llm -> [LLM]
    answer           after_llm.on_chunk -> after_llm.on_response -> [sentences] -> after_llm.on_sentence
                     -> text transforms -> guardrails -> before_synthesize -> before_tts -> [TTS]
    agent's audio    after_tts -> after_synthesize -> caller

Hooks fail open: if a hook raises, returns a wrong type or does not return in time, its input passes unchanged and one
log line reports the failure. :data:`TIERS` has the time limits, docs/hooks.md also the meaning of None for each hook.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.providers.other_names import other_names, warn
from patter_trio.user_code.signatures import parameters_of


# Both bases are promised: programs may filter it as a deprecation, or with the warnings that are for users.
class PatterDeprecationWarning(DeprecationWarning, UserWarning):
    """A warning of an interface that will be removed.

    Shown once in a process. Filters for ``DeprecationWarning`` and for ``UserWarning`` apply to it.
    """


@dataclass(frozen=True)
class HookContext:
    """The call that a hook is called for."""

    call_id: str
    caller: str
    """E.164."""
    callee: str
    """E.164."""
    history: tuple[dict[str, Any], ...] = ()
    """Copies of the newest 200 entries of the conversation so far: role, text and timestamp (Unix time in seconds)."""


@attrs.frozen
class Tier:
    """The time limits of a kind of hook, in seconds, and its arguments besides the context."""

    budget: float
    """Seconds after which a warning is logged, once per call. Callers do not notice a delay of this length."""
    deadline: float
    """Seconds after which the hook is cancelled and its input passes. Each deadline is far below the 15 s after which a
    reply without audio is given up."""
    values: tuple[str, ...]
    """The names of its arguments; ``ctx`` follows them if the function takes it."""
    often: bool = False
    """True if the hook is called many times a second. After the first missed deadline it is disabled for the rest of
    the call, and only its first failure is logged."""


# Judged. The budgets are what goes unnoticed: from 1 ms for each chunk of an LLM's answer to 2 s for the whole answer,
# which is held back for the hook in any case.
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
"""Every kind of hook, in the order in which data reaches them."""

AFTER_LLM: Final = ("on_chunk", "on_sentence", "on_response")
# Both names are common; by its annotation it may have any.
_CONTEXT_PARAMETERS: Final = ("ctx", "context")


@attrs.frozen
class Hook:
    """One function of the application, and how to call it."""

    name: str
    """The key in :data:`TIERS`; followed by an index or name where there are several: ``text_transforms[0]``."""
    function: Callable[..., Any]
    tier: Tier
    positional: tuple[str, ...]
    """The names of the values passed by position."""
    keywords: tuple[str, ...] = ()
    """The parameters that receive the context by name."""

    def arguments(
        self, values: Sequence[object], context: Callable[[], HookContext]
    ) -> tuple[list[object], dict[str, object]]:
        """Return the positional and keyword arguments: those of ``values`` and the context that the function takes."""
        given = dict(zip(self.tier.values, values, strict=True))
        # The context is made only if a hook takes it: it copies 200 entries of the history.
        positional = [context() if name == "ctx" else given[name] for name in self.positional]
        return positional, {name: context() for name in self.keywords}


def hook_of(name: str, function: object, *, label: str = "") -> Hook:
    """Inspect a function's signature once, and return it as the hook ``name``.

    The function may take the values in order, or only the first of them, and the context after them or by the name
    ``ctx``. A parameter with a default receives the context only by that name, because it may have another purpose.

    Raises:
        ConfigurationError: ``function`` is not callable, or not with these arguments.
    """
    label = label or name
    tier = TIERS[name]
    if not callable(function):
        raise ConfigurationError(f"{label} must be a function, got {type(function).__name__}: {function!r}")
    parameters = parameters_of(function)
    # A built-in without a signature: one argument is what such functions take.
    if parameters is None:
        return Hook(label, function, tier, tier.values[:1])
    positional, keywords = _wanted(parameters, tier.values)
    # Checked when the hooks are made, not when audio flows. The empty name stands for a parameter that nobody can fill.
    if len(positional) > len(tier.values) + 1 or "" in (*positional, *keywords) or not positional:
        shape = ", ".join(tier.values)
        shown = getattr(function, "__qualname__", None) or repr(function)
        raise ConfigurationError(f"{label} must be callable with ({shape}) or ({shape}, ctx), got {shown}")
    return Hook(label, function, tier, tuple(positional), tuple(keywords))


def _wanted(parameters: list[inspect.Parameter], values: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return what to pass by position and by name; an empty name stands for a parameter that we cannot supply."""
    offered = [*values, "ctx"]
    positional: list[str] = []
    keywords: list[str] = []
    for parameter in parameters:
        required = parameter.default is parameter.empty
        # By name or annotation, also as text: modules with ``from __future__ import annotations`` have only the text.
        context = parameter.name in _CONTEXT_PARAMETERS or parameter.annotation in (HookContext, "HookContext")
        place = len(positional)
        # WARNING: the order of the cases matters: the first that fits decides.
        match parameter.kind:
            # ``*arguments`` gets everything that is left, the context last.
            case parameter.VAR_POSITIONAL:
                positional += offered[place:]
            # ``**options`` gets nothing: none of the values has a name that the application could know.
            case parameter.VAR_KEYWORD:
                pass
            # With a default it belongs to the application, unless it is called like the context.
            case parameter.KEYWORD_ONLY:
                if context or required:
                    keywords.append(parameter.name if context else "")
            # The first parameter always gets a value, whatever its name: a hook without a value would have no purpose.
            case _ if context and place:
                positional.append("ctx")
            # Beyond what we have to give: fine with a default, an error without one.
            case _ if "ctx" in positional or place >= len(offered):
                positional += [""] if required else []
            case _ if required or place < len(values):
                positional.append(offered[place])
    return positional, keywords


@other_names()
@attrs.frozen(kw_only=True)
class PipelineHooks:
    """Functions that see, change or drop what passes between the stages; sync or async, each with or without ``ctx``.

    ``after_llm`` takes a dict with ``on_chunk``, ``on_sentence`` and ``on_response``, or an object with such
    attributes. A plain function ``(text, ctx)`` is the older form of ``on_response``.

    Raises:
        ConfigurationError: a hook is not a function or cannot be called with its arguments, or ``after_llm`` has an
            unknown key.
    """

    before_send_to_stt: Callable[..., Any] | None = None
    """``(pcm, ctx) -> bytes | None``: the caller's audio on its way to the STT; None: silence instead."""
    before_stt: Callable[..., Any] | None = None
    """``(pcm, ctx) -> bytes | None``: the result of ``before_send_to_stt``, with the same meaning."""
    after_stt: Callable[..., Any] | None = None
    """``(transcript, ctx) -> Transcript | str | None``: each result, with ``.text`` and ``.final``; None: no words."""
    after_transcribe: Callable[..., Any] | None = None
    """``(text, ctx) -> str | None``: the words of a turn; None: no turn."""
    before_llm: Callable[..., Any] | None = None
    """``(messages, ctx) -> list | None``: the messages for the LLM; None: unchanged."""
    after_llm: Any = None
    """The functions that see the LLM's answer: ``on_chunk``, ``on_sentence`` and ``on_response``."""
    before_synthesize: Callable[..., Any] | None = None
    """``(text, ctx) -> str | None``: a sentence before it is spoken; None: it is not spoken."""
    before_tts: Callable[..., Any] | None = None
    """``(text, ctx) -> str | None``: the result of ``before_synthesize``, with the same meaning."""
    after_tts: Callable[..., Any] | None = None
    """``(pcm, text, ctx) -> bytes | None``: the agent's audio, and the sentence it belongs to; None: not sent."""
    after_synthesize: Callable[..., Any] | None = None
    """``(pcm, text, ctx) -> bytes | None``: the result of ``after_tts``, with the same meaning."""
    compiled: Mapping[str, Hook] = attrs.field(init=False, eq=False, repr=False)
    """The hooks that are set, by their keys in :data:`TIERS`."""

    def __attrs_post_init__(self) -> None:
        """Inspect each hook."""
        # From the table, so that a hook cannot exist without limits.
        given = {name: getattr(self, name) for name in TIERS if hasattr(type(self), name)}
        given |= {f"after_llm.{tier}": function for tier, function in _tiers(self.after_llm).items()}
        hooks = {name: hook_of(name, function) for name, function in given.items() if function is not None}
        # ``object.__setattr__``, because the class is frozen: this field is computed from the others.
        object.__setattr__(self, "compiled", hooks)


# Cached, so that it warns once in a process, whatever the filters. A warning that is raised as an error is not cached.
@cache
def _warn_of_legacy_form() -> None:
    with ExitStack() as stack:
        if _is_hidden_by_default():
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("default", PatterDeprecationWarning)
        warn('after_llm=function is deprecated; write after_llm={"on_response": function}', PatterDeprecationWarning)


def _is_hidden_by_default() -> bool:
    """Return True if nobody has chosen a filter for the warning, and Python's own one hides it.

    Python shows a DeprecationWarning only where ``__main__`` causes it: not in a module, and not under the launcher.
    """
    if sys.warnoptions:
        return False
    behind_main = False
    for action, message, category, module, _ in warnings.filters:
        if message is None and issubclass(PatterDeprecationWarning, category):
            # The first filter for any module decides. Python's own stands behind the one for ``__main__``; the same
            # filter that a program sets itself stands before it.
            if module is None:
                return behind_main and (action, category) == ("ignore", DeprecationWarning)
            behind_main = behind_main or module == "__main__"
    return False


def _tiers(after_llm: Any) -> Mapping[str, Any]:
    """Return the functions of ``after_llm``, given in any of its three forms."""
    if after_llm is None:
        return {}
    if isinstance(after_llm, Mapping):
        # An unknown key is most often a misspelled one, and its function would never run.
        unknown = sorted(str(key) for key in after_llm if key not in AFTER_LLM)
        if unknown:
            raise ConfigurationError(f"after_llm must have the keys {', '.join(AFTER_LLM)}, got {', '.join(unknown)}")
        return after_llm
    # Any subset: an object may implement only one of the three.
    found = {tier: getattr(after_llm, tier) for tier in AFTER_LLM if hasattr(after_llm, tier)}
    if found:
        return found
    if not callable(after_llm):
        raise ConfigurationError(
            f"after_llm must be a dict or an object with {', '.join(AFTER_LLM)}, "
            f"got {type(after_llm).__name__}: {after_llm!r}"
        )
    _warn_of_legacy_form()
    return {"on_response": after_llm}

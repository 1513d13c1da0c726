"""Hooks and guardrails as they are given: what is wrong with them is said then, not in the first call."""

import functools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import attrs
import pytest

import patter_trio
from patter_trio import (
    ConfigurationError,
    Guardrail,
    HookContext,
    Patter,
    PatterDeprecationWarning,
    PipelineHooks,
    filter_for_tts,
    guardrail,
)
from patter_trio.agent.hooks import TIERS, hook_of
from patter_trio.testing import ScriptedSTT, ScriptedTTS, ScriptedVAD

pytestmark = pytest.mark.pipeline("an engine has no hooks")

PROVIDERS: dict[str, Any] = {"stt": ScriptedSTT(), "tts": ScriptedTTS(), "vad": ScriptedVAD()}


def keep(value: Any) -> Any:
    return value


class Tiers:
    on_chunk = staticmethod(keep)
    on_response = staticmethod(keep)


def test_every_contract_hook_is_settable_by_name() -> None:
    """PipelineHooks accepts every hook of the contract and returns each one under its name."""
    names = [name for name in TIERS if "." not in name and name not in ("text_transforms", "guardrails")]
    assert names == [
        "before_send_to_stt", "before_stt", "after_stt", "after_transcribe", "before_llm",
        "before_synthesize", "before_tts", "after_tts", "after_synthesize",
    ]  # fmt: skip
    after_llm = {"on_chunk": keep, "on_sentence": keep, "on_response": keep}
    hooks = PipelineHooks(**dict.fromkeys(names, keep), after_llm=after_llm)
    assert set(hooks.compiled) == {*names, *(f"after_llm.{tier}" for tier in after_llm)}
    assert set(hooks.compiled) == set(TIERS) - {"text_transforms", "guardrails"}


def test_hooks_and_hook_context_are_frozen() -> None:
    """PipelineHooks is frozen, and the hook context is a frozen dataclass."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        PipelineHooks().before_llm = keep  # type: ignore[misc]
    context = HookContext(call_id="CA1", caller="+1", callee="+2")
    assert context.history == ()
    assert list(HookContext.__dataclass_fields__) == ["call_id", "caller", "callee", "history"]
    with pytest.raises(AttributeError):
        context.caller = "+3"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"before_llm": "no"}, "before_llm must be a function, got str: 'no'"),
        ({"before_send_to_stt": 5}, "before_send_to_stt must be a function, got int: 5"),
        (
            {"after_transcribe": lambda: None},
            r"after_transcribe must be callable with \(text\) or \(text, ctx\), got .*<lambda>",
        ),
        ({"after_transcribe": lambda a, b, c: a}, r"after_transcribe must be callable with \(text\) or \(text, ctx\)"),
        ({"before_tts": lambda text, *, voice: text}, r"before_tts must be callable with \(text\) or \(text, ctx\)"),
        ({"after_tts": lambda a, b, c, d: a}, r"after_tts must be callable with \(pcm, text\) or \(pcm, text, ctx\)"),
        (
            {"after_llm": {"on_sentense": keep}},
            "must have the keys on_chunk, on_sentence, on_response, got on_sentense",
        ),
        ({"after_llm": {1: keep}}, "after_llm must have the keys on_chunk, on_sentence, on_response, got 1"),
        ({"after_llm": {"on_chunk": 3}}, "after_llm.on_chunk must be a function, got int: 3"),
        ({"after_llm": 3}, "after_llm must be a dict or an object with on_chunk, .* got int: 3"),
    ],
)
def test_hook_of_wrong_type_raises_error_naming_it(given: dict[str, Any], message: str) -> None:
    """A hook of a wrong type raises a ConfigurationError that names the hook."""
    with pytest.raises(ConfigurationError, match=message):
        PipelineHooks(**given)


def test_an_unknown_hook_is_a_type_error() -> None:
    """PipelineHooks raises a TypeError that names an unknown hook."""
    with pytest.raises(TypeError, match="before_ltm"):
        PipelineHooks(before_ltm=keep)  # type: ignore[call-arg]


CONTEXT = HookContext("CA1", "+1", "+2")


def called_with(name: str, function: Any) -> Any:
    values = [f"<{value}>" for value in TIERS[name].values]
    positional, keywords = hook_of(name, function).arguments(values, lambda: CONTEXT)
    return function(*positional, **keywords)


class Bound:
    def method(self, text: str, ctx: HookContext) -> Any:
        return text, ctx

    def __call__(self, text: str) -> Any:
        return (text,)


@pytest.mark.parametrize(
    ("name", "function", "expected"),
    [
        ("before_llm", lambda messages: (messages,), ("<messages>",)),
        ("before_llm", lambda messages, ctx: (messages, ctx), ("<messages>", CONTEXT)),
        ("before_llm", lambda m, anything: (m, anything), ("<messages>", CONTEXT)),
        ("before_llm", lambda m, ctx=None: (m, ctx), ("<messages>", CONTEXT)),
        ("before_llm", lambda m, *, ctx: (m, ctx), ("<messages>", CONTEXT)),
        ("before_llm", lambda m, *, context=None: (m, context), ("<messages>", CONTEXT)),
        ("before_llm", lambda m, limit=3: (m, limit), ("<messages>", 3)),
        ("before_llm", lambda *all_of_it: all_of_it, ("<messages>", CONTEXT)),
        ("before_llm", lambda m, **options: (m, options), ("<messages>", {})),
        ("before_llm", functools.partial(lambda rule, m: (rule, m), "x"), ("x", "<messages>")),
        ("after_tts", lambda pcm: (pcm,), ("<pcm>",)),
        ("after_tts", lambda pcm, text: (pcm, text), ("<pcm>", "<text>")),
        ("after_tts", lambda pcm, ctx: (pcm, ctx), ("<pcm>", CONTEXT)),
        ("after_synthesize", lambda pcm, text, ctx: (pcm, text, ctx), ("<pcm>", "<text>", CONTEXT)),
        ("after_synthesize", lambda pcm, text="": (pcm, text), ("<pcm>", "<text>")),
        ("after_synthesize", lambda pcm, *, ctx: (pcm, ctx), ("<pcm>", CONTEXT)),
        ("text_transforms", str.upper, "<TEXT>"),
        ("text_transforms", str.strip, "<text>"),
        ("before_tts", Bound().method, ("<text>", CONTEXT)),
        ("before_tts", Bound(), ("<text>",)),
    ],
)
def test_context_goes_only_to_hooks_accepting_it(name: str, function: Any, expected: Any) -> None:
    """A hook receives the context only if its signature asks for it."""
    assert called_with(name, function) == expected


def test_an_annotation_asks_for_the_context_too() -> None:
    """A hook's parameter that is annotated HookContext receives the context; any other one keeps its default."""

    def hook(text: str, call: HookContext | None = None, extra: str = "") -> Any:
        return text, call, extra

    def annotated(text: str, call: HookContext = CONTEXT) -> Any:
        return text, call

    assert called_with("before_tts", hook) == ("<text>", None, "")
    assert called_with("before_tts", annotated) == ("<text>", CONTEXT)


def test_after_llm_accepts_any_object_with_tiers() -> None:
    """The after_llm hook accepts any object that has the tier methods."""
    assert set(PipelineHooks(after_llm=Tiers()).compiled) == {"after_llm.on_chunk", "after_llm.on_response"}
    with_nothing = type("Empty", (), {"on_chunk": None, "on_sentence": None, "on_response": None})()
    assert PipelineHooks(after_llm=with_nothing).compiled == {}


def test_legacy_form_warns_once_in_a_process() -> None:
    """The legacy form warns the first time only, also where the filters show every warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            PipelineHooks(after_llm=lambda text, ctx: text)
    assert [warning.category for warning in caught] == [PatterDeprecationWarning]


@pytest.mark.parametrize(
    ("options", "chosen", "shown"),
    [
        ([], "", 1),
        (["-W", "ignore::DeprecationWarning"], "", 0),
        ([], "warnings.simplefilter('ignore', DeprecationWarning)", 0),
        ([], "warnings.simplefilter('ignore', UserWarning)", 0),
        ([], "warnings.simplefilter('ignore')", 0),
    ],
)
def test_legacy_warning_shows_in_imported_modules(tmp_path: Path, options: list[str], chosen: str, shown: int) -> None:
    """By default the warning is shown once for a module that a program imports; filters that were chosen hold."""
    (tmp_path / "desk.py").write_text(
        "from patter_trio import PipelineHooks\n"
        "hooks = [PipelineHooks(after_llm=lambda text, ctx: text) for _ in range(2)]\n"
    )
    program = f"import sys, warnings\n{chosen}\nsys.path.insert(0, {str(tmp_path)!r})\nimport desk"
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("desk.py:2: PatterDeprecationWarning") == shown


def test_legacy_after_llm_callable_maps_to_on_response() -> None:
    """A legacy after_llm callable becomes on_response and causes one warning at construction."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hooks = PipelineHooks(after_llm=lambda text, ctx: text.upper())
        agent = Patter().agent("x", **PROVIDERS, hooks=hooks)
        agent.overridden({"first_message": "Hello"})
    assert [warning.category for warning in caught] == [PatterDeprecationWarning]
    assert issubclass(PatterDeprecationWarning, DeprecationWarning)
    assert issubclass(PatterDeprecationWarning, UserWarning)
    assert caught[0].filename == __file__
    assert 'after_llm={"on_response": function}' in str(caught[0].message)
    assert set(hooks.compiled) == {"after_llm.on_response"}


def test_the_dict_and_the_object_warn_of_nothing() -> None:
    """An after_llm hook that is a dict or an object with tiers causes no warning."""
    PipelineHooks(after_llm={"on_response": keep})  # a warning would be an error here
    PipelineHooks(after_llm=Tiers())


# Guardrails -----------------------------------------------------------------------------------------------------------
def test_guardrail_function_builds_guardrail_from_parts() -> None:
    """The guardrail function builds the same Guardrail from its parts as the class does."""
    made = guardrail(name="no-rivals", blocked_terms=["Initech"])
    assert made == Guardrail(name="no-rivals", blocked_terms=["Initech"])
    assert made.blocked_terms == ("Initech",)
    assert made.replacement == "I am sorry, I cannot talk about that."
    checked = guardrail("no-prices", check=keep, replacement="Not on the phone.")
    assert checked == Guardrail(name="no-prices", check=keep, replacement="Not on the phone.")
    assert guardrail("both", ["a"], keep).check is keep


def test_guardrail_decorator_turns_check_into_guardrail() -> None:
    """The guardrail decorator turns a check function into a Guardrail."""

    @guardrail
    def no_prices(text: str) -> bool:
        return "$" in text

    @guardrail(replacement="Not on the phone.")
    async def no_secrets(text: str) -> bool:
        return "secret" in text

    @guardrail("by name")
    def named(text: str) -> bool:
        return False

    assert (no_prices.name, no_secrets.name, named.name) == ("no_prices", "no_secrets", "by name")
    assert no_secrets.replacement == "Not on the phone."
    assert no_prices.check is not None
    assert no_prices.check("$5")


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("Try Initech instead.", True),
        ("try INITECH", True),
        ("the initechs", True),
        ("Credit \n card", True),
        ("ｉｎｉｔｅｃｈ", True),  # noqa: RUF001 (wide letters are the point)
        ("GROSSE STRASSE", True),
        ("In it, Technik.", False),
        ("", False),
    ],
)
def test_blocked_terms_match_any_case_width_and_spacing(text: str, blocked: bool) -> None:
    """A guardrail finds blocked terms regardless of case, character width and spacing."""
    assert Guardrail("g", ["initech", "credit card", "Straße"]).names(text) is blocked


@pytest.mark.parametrize(
    "text",
    [
        "Buy Ini\u200btech now.",
        "Buy Ini\u00adtech now.",
        "Buy In\u2060it\ufeffech now.",
        "Buy Ini\u034ftech now.",
        "Buy Ini\ufe0ftech now.",
        "Buy Ini**tech** now.",
        "Buy **I**nitech now.",
        "Buy __Ini__`tech` now.",
        "Buy ~~Ini~~tech\u200d now.",
    ],
)
def test_blocked_terms_are_found_in_disguise(text: str) -> None:
    """A blocked term is found although invisible characters or Markdown are within it."""
    assert guardrail(name="g", blocked_terms=["Initech"]).names(text)
    assert guardrail(name="g", blocked_terms=["In\u200bitech"]).names(text)


@pytest.mark.parametrize(
    ("term", "text", "blocked"),
    [
        ("credit_card", "the credit_card field", True),
        ("credit_card", "the credit card field", False),
        ("**", "two ** stars", True),
        ("**", "no stars", False),
        ("*", "no stars", False),
        ("a*b", "what a*b is", True),
    ],
)
def test_terms_with_markdown_are_found_as_written(term: str, text: str, blocked: bool) -> None:
    """A term that has Markdown's characters is found, and one of nothing else is not found everywhere."""
    assert guardrail(name="g", blocked_terms=[term]).names(text) is blocked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": 5, "check": keep}, "a guardrail's name must be a str, got int: 5"),
        ({"name": "g"}, "guardrail 'g' must have blocked_terms or a check, got neither"),
        ({"name": "g", "blocked_terms": "secret"}, "blocked_terms must be a list of strings, got str: 'secret'"),
        ({"name": "g", "blocked_terms": 5}, "blocked_terms must be a list of strings, got int: 5"),
        ({"name": "g", "blocked_terms": ["a", " "]}, "blocked_terms must be strings that are not blank, got ' '"),
        ({"name": "g", "blocked_terms": [None]}, "blocked_terms must be strings that are not blank, got None"),
        ({"name": "g", "check": "x"}, "guardrail 'g' must be a function, got str: 'x'"),
        ({"name": "g", "check": lambda: True}, r"guardrail 'g' must be callable with \(text\) or \(text, ctx\)"),
        ({"name": "g", "check": keep, "replacement": None}, "a guardrail's replacement must be a str, got NoneType"),
    ],
)
def test_a_wrong_guardrail_says_what_is_wrong(arguments: dict[str, Any], message: str) -> None:
    """A Guardrail with a wrong argument raises a ConfigurationError that names the argument and its value."""
    with pytest.raises(ConfigurationError, match=message):
        Guardrail(**arguments)


# The agent ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hooks": {"before_llm": keep}}, "hooks must be a PipelineHooks, got dict"),
        ({"hooks": PipelineHooks}, "hooks must be a PipelineHooks, got type: "),
        ({"text_transforms": str.upper}, "text_transforms must be a list of functions, got method_descriptor: "),
        ({"text_transforms": [str.upper, "x"]}, r"text_transforms\[1\] must be a function, got str: 'x'"),
        (
            {"text_transforms": [lambda a, b, c: a]},
            r"text_transforms\[0\] must be callable with \(text\) or \(text, ctx\)",
        ),
        ({"guardrails": "no-prices"}, "guardrails must be a list of guardrails, got str: 'no-prices'"),
        ({"guardrails": ["no-prices"]}, r"guardrails must hold guardrail\(...\) or dicts .*, got str: 'no-prices'"),
        ({"guardrails": [{"name": "x", "terms": []}]}, "must have a name, .*; got unknown terms"),
        ({"guardrails": [{"check": keep}]}, "must have a name, .*; got no name"),
    ],
)
def test_agent_rejects_invalid_hooks_transforms_and_guardrails(options: dict[str, Any], message: str) -> None:
    """The agent states what is wrong with invalid hooks, text transforms and guardrails."""
    with pytest.raises(ConfigurationError, match=message):
        Patter().agent("x", **PROVIDERS, **options)


def test_agent_accepts_guardrail_dicts_and_copies_lists() -> None:
    """The agent accepts guardrails as dicts and copies the lists that it receives."""
    transforms, guards = [str.upper], [{"name": "g", "blocked_terms": ["x"]}]
    agent = Patter().agent("x", **PROVIDERS, text_transforms=transforms, guardrails=guards)
    transforms.append(str.lower)
    guards.clear()
    assert agent.text_transforms == (str.upper,)
    assert agent.guardrails == (Guardrail("g", ["x"]),)


def test_call_overrides_replace_hooks_transforms_and_guardrails() -> None:
    """An override replaces hooks, text transforms and guardrails for one call and changes nothing else."""
    hooks = PipelineHooks(before_llm=keep)
    agent = Patter().agent("x", **PROVIDERS)
    other, complaints = agent.overridden(
        {"hooks": hooks, "text_transforms": [str.upper], "guardrails": [{"name": "g", "blocked_terms": ["x"]}]}
    )
    assert complaints == []
    assert (other.hooks, other.text_transforms, other.guardrails) == (hooks, (str.upper,), (Guardrail("g", ["x"]),))
    assert (agent.hooks, agent.text_transforms, agent.guardrails) == (None, (filter_for_tts,), ())
    assert attrs.evolve(other, hooks=None, text_transforms=None, guardrails=()) == agent
    same, wrong = agent.overridden({"hooks": 3, "guardrails": "x"})
    assert same == agent
    assert sorted(wrong) == [
        "guardrails must be a list of guardrails, got str: 'x'",
        "hooks must be a PipelineHooks, got int: 3",
    ]


def test_the_names_of_migrating_programs_are_exported() -> None:
    """The package exports the names of hooks and filters that programs written for getpatter import."""
    names = {
        "Guardrail", "guardrail", "PipelineHooks", "HookContext", "PatterDeprecationWarning", "SentenceChunker",
        "filter_markdown", "filter_emoji", "filter_for_tts",
    }  # fmt: skip
    assert names <= set(patter_trio.__all__)

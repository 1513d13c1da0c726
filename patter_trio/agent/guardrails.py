"""Guardrails: checks that keep an agent from speaking certain sentences, whatever its LLM answers.

Guardrails check each sentence of a reply after all other hooks and transforms, right before it is spoken. The agent
speaks the replacement of the first guardrail that blocks, once per reply, and omits further sentences that the same
guardrail blocks.

Guardrails fail closed: a check that fails blocks the sentence. Hooks fail open, because they only improve a call. A
guardrail exists because some sentence must not be heard, and an unchecked sentence may be that one.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, overload

import attrs

from patter_trio.agent.hooks import Hook, hook_of
from patter_trio.errors import ConfigurationError

DEFAULT_REPLACEMENT: Final = "I am sorry, I cannot talk about that."

# The invisible ones that Unicode does not count as format characters: joiners, fillers and variation selectors.
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0").union(
    map(chr, range(0xFE00, 0xFE10))
)
_NO_EMPHASIS: Final = dict.fromkeys(map(ord, "*_~`"))

Check = Callable[..., Any]
"""``(text) -> bool`` or ``(text, ctx) -> bool``, sync or async; a true result blocks the text."""


def _terms(terms: object) -> tuple[Any, ...]:
    if terms is None:
        return ()
    # A text would become a list of letters, and each letter would block nearly every sentence.
    if isinstance(terms, str) or not isinstance(terms, Iterable):
        raise ConfigurationError(f"blocked_terms must be a list of strings, got {type(terms).__name__}: {terms!r}")
    return tuple(terms)


def _checked_terms(_: object, __: "attrs.Attribute[Any]", terms: tuple[object, ...]) -> None:
    for term in terms:
        # After folding: a term of nothing but spaces would be found in every text.
        if not isinstance(term, str) or not _folded(term):
            raise ConfigurationError(f"blocked_terms must be strings that are not blank, got {term!r}")


def _text(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"a guardrail's {attribute.name} must be a str, got {type(value).__name__}: {value!r}")


def _in_getpatters_order(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with check and terms in their places: getpatter's class has the check in the second one."""
    second, third = options.get("blocked_terms"), options.get("check")
    return {**options, "blocked_terms": third, "check": second} if callable(second) else options


@attrs.frozen(init=False)
class Guardrail:
    """A check that blocks sentences, and the text spoken instead of the first one.

    Args:
        name: the name in log lines.
        blocked_terms: terms that block a sentence which contains one of them, also inside a word; case, invisible
            characters and Markdown's emphasis are ignored.
        check: ``(text) -> bool`` or ``(text, ctx) -> bool``, sync or async; true blocks. A check that raises, or does
            not return within 3 s, blocks as well.
        replacement: the text spoken instead; empty: nothing is spoken.

    Raises:
        ConfigurationError: an argument has a wrong type, or there is neither a term nor a check.
    """

    def __init__(
        self,
        name: str,
        blocked_terms: Iterable[str] | Check | None = (),
        check: Check | Iterable[str] | None = None,
        replacement: str = DEFAULT_REPLACEMENT,
    ) -> None:
        places = _in_getpatters_order({"blocked_terms": blocked_terms, "check": check})
        self.__attrs_init__(name, replacement=replacement, **places)

    name: str = attrs.field(validator=_text)
    blocked_terms: tuple[str, ...] = attrs.field(default=(), converter=_terms, validator=_checked_terms)
    check: Check | None = None
    replacement: str = attrs.field(default=DEFAULT_REPLACEMENT, validator=_text)
    hook: Hook | None = attrs.field(init=False, eq=False, repr=False, default=None)
    """The check as a hook, with its inspected signature."""

    def __attrs_post_init__(self) -> None:
        """Inspect the check."""
        if not self.blocked_terms and self.check is None:
            raise ConfigurationError(f"guardrail {self.name!r} must have blocked_terms or a check, got neither")
        if self.check is not None:
            hook = hook_of("guardrails", self.check, label=f"guardrail {self.name!r}")
            # ``object.__setattr__``, because the class is frozen.
            object.__setattr__(self, "hook", hook)

    def names(self, text: str) -> bool:
        """Return True if the text contains a blocked term."""
        folded = _folded(text)
        bare = _bare(folded)
        return any((term := _folded(given)) in folded or _named_in(bare, term) for given in self.blocked_terms)


def _folded(text: str) -> str:
    """Return the text for comparison, without invisible characters and differences of case, width and white space."""
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf" and c not in _INVISIBLE)
    # NFKC: full-width letters and ligatures are other spellings of the same word. ``casefold``: "ß" is "ss".
    return " ".join(unicodedata.normalize("NFKC", visible).casefold().split())


def _bare(folded: str) -> str:
    """Return a folded text without the characters of Markdown's emphasis, which no voice speaks."""
    return folded.translate(_NO_EMPHASIS)


def _named_in(bare: str, term: str) -> bool:
    # A term of nothing but these characters is looked for in the text as it is.
    bare_term = _bare(term)
    return bool(bare_term) and bare_term in bare


@overload
def guardrail(name: Check, /) -> Guardrail: ...
@overload
def guardrail(
    name: str, blocked_terms: Iterable[str], check: Check | None = None, replacement: str = DEFAULT_REPLACEMENT
) -> Guardrail: ...
@overload
def guardrail(
    name: str, blocked_terms: Iterable[str] | None = None, *, check: Check, replacement: str = DEFAULT_REPLACEMENT
) -> Guardrail: ...
@overload
def guardrail(name: str = "", *, replacement: str = DEFAULT_REPLACEMENT) -> Callable[[Check], Guardrail]: ...
def guardrail(
    name: str | Check = "",
    blocked_terms: Iterable[str] | None = None,
    check: Check | None = None,
    replacement: str = DEFAULT_REPLACEMENT,
) -> Guardrail | Callable[[Check], Guardrail]:
    """Make a :class:`Guardrail` from its arguments, or as a decorator of its check.

    ::

        no_competitors = guardrail("no-competitors", blocked_terms=["Initech"])

        @guardrail(replacement="I cannot quote prices on the phone.")
        def no_prices(text):
            return "$" in text

    Raises:
        ConfigurationError: as for :class:`Guardrail`.
    """
    # The decorator without parentheses: the first argument is then the check itself.
    if callable(name):
        return Guardrail(getattr(name, "__name__", "check"), (), name, replacement)
    if blocked_terms is not None or check is not None:
        return Guardrail(name, _terms(blocked_terms), check, replacement)
    return partial(_decorated, name, replacement)


def _decorated(name: str, replacement: str, check: Check) -> Guardrail:
    return Guardrail(name or getattr(check, "__name__", "check"), (), check, replacement)


def guardrails_of(given: Sequence[Guardrail | Mapping[str, Any]] | None) -> tuple[Guardrail, ...]:
    """Return the guardrails of ``phone.agent(guardrails=...)``, each a :class:`Guardrail` or a dict of its arguments.

    Raises:
        ConfigurationError: ``given`` is not a list, or an item has a wrong type or wrong arguments.
    """
    if given is None:
        return ()
    # Not any iterable: a dict of one guardrail would be taken for a list of its keys.
    if not isinstance(given, list | tuple):
        raise ConfigurationError(f"guardrails must be a list of guardrails, got {type(given).__name__}: {given!r}")
    return tuple(_guardrail_of(item) for item in given)


def _guardrail_of(item: object) -> Guardrail:
    if isinstance(item, Guardrail):
        return item
    if not isinstance(item, Mapping):
        raise ConfigurationError(
            f"guardrails must hold guardrail(...) or dicts of its arguments, got {type(item).__name__}: {item!r}"
        )
    # Named, because ``Guardrail(**item)`` would name only the first unknown key, and as a TypeError.
    unknown = sorted(str(key) for key in item if key not in ("name", "blocked_terms", "check", "replacement"))
    if unknown or "name" not in item:
        wrong = f"unknown {', '.join(unknown)}" if unknown else "no name"
        raise ConfigurationError(
            f"a guardrail must have a name, and may have blocked_terms, check and replacement; got {wrong}"
        )
    return Guardrail(**item)

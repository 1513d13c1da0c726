"""Prompts of models: the preamble about the telephone, and values that are filled into a template. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from patter_trio.conversation.marks import COMMAS, DASHES, GOING_ON
from patter_trio.scripts import primary_language

# Longer ones are whole documents; as a caller's name or a parameter of a call they are an attack.
MAX_VALUE_CHARACTERS: Final = 500
"""Characters of a value that are put into a prompt or a greeting."""

_LANGUAGES: Final = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay", "nb": "Norwegian",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "ta": "Tamil", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
_SPACES: Final = re.compile(r"\r\n|[\t\n\r]")
_CONTROLS: Final = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029]")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_SPOKEN_PLACEHOLDER: Final = re.compile(
    rf"(?P<comma>[{COMMAS}]?)(?P<space>\s*)\{{(?P<name>[^{{}}]*)\}}(?=(?P<behind>.)?)", re.DOTALL
)
_LEFT_AT_BEGINNING: Final = GOING_ON + DASHES + " \t\n"


def phone_preamble(language: str) -> str:
    """Return what a model has to know about a telephone call; ``language`` is a BCP 47 tag."""
    name = _LANGUAGES.get(primary_language(language))
    spoken = f"in {name} ({language})" if name else f"in the language {language!r}"
    return (
        f"This is a telephone call {spoken}. What you write is spoken to the caller, and what the caller says reaches "
        "you through speech recognition, which makes mistakes. Answer briefly, as people talk, without Markdown, "
        "lists, links or emoji."
    )


def cleaned(value: object) -> str:
    """Return a value as text of at most :data:`MAX_VALUE_CHARACTERS` characters, without control characters.

    Line breaks and tabs become spaces. Such a value may come from the caller, and must not look like a new paragraph of
    the instructions.
    """
    return _CONTROLS.sub("", _SPACES.sub(" ", str(value)))[:MAX_VALUE_CHARACTERS]


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Return ``template`` with each ``{name}`` of ``values`` replaced; other braces stay as they are."""
    # In one pass: a value may come from the caller, and must not be read as a template itself.
    return _PLACEHOLDER.sub(lambda found: cleaned(values[found[1]]) if found[1] in values else found[0], template)


def filled_to_speak(template: str, values: Mapping[str, Any]) -> str:
    """Return ``template`` to be spoken: filled in, without a ``{name}`` that has no value, which nobody should hear."""
    unknown = frozenset(unknown_names(template, values))

    def value(found: re.Match[str]) -> str:
        comma, space, name, behind = found["comma"], found["space"], found["name"], found["behind"] or "."
        if name in values:
            return f"{comma}{space}{cleaned(values[name])}"
        if name not in unknown:
            return found[0]
        if behind.isalnum():
            return comma + space
        # Without the space before it, because what is behind has a space or a mark of its own; before a mark, and at
        # the end, without a comma, too.
        return comma if behind.isspace() else ""

    said = _SPOKEN_PLACEHOLDER.sub(value, template)
    # Behind a name that is missing at the beginning a comma may be left.
    begins = _PLACEHOLDER.match(template.lstrip())
    return said.lstrip(_LEFT_AT_BEGINNING) if begins and begins[1] in unknown else said


def unknown_names(template: str, values: Mapping[str, Any]) -> list[str]:
    """Return the names in braces that have no value and are most likely meant to have one."""
    # Not "{" of JSON or of code, which prompts show as examples.
    return sorted({name for name in _PLACEHOLDER.findall(template) if name.isidentifier() and name not in values})

"""Descriptions from Google-style docstrings."""

import re
from typing import Final

# Only the headings of Google style, each alone on its line: a sentence may begin with one of these words.
_SECTION: Final = re.compile(
    r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?|Attributes|Warnings?|See Also|Todo):\s*"
)
# With an optional type in brackets, which is ignored: the hint is the truth.
_ARGUMENT: Final = re.compile(r"(?P<name>\*{0,2}\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)")


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring before its sections, and its description of each argument."""
    text: list[str] = []
    about: dict[str, str] = {}
    section, indent, name = "", 0, ""
    for line in docstring.splitlines():
        stripped = line.strip()
        # A heading is not indented; the same word in an argument's description is.
        if line == line.lstrip() and _SECTION.fullmatch(stripped):
            section, indent, name = stripped.rstrip(":"), 0, ""
        elif not section:
            text.append(stripped)
        elif section in ("Args", "Arguments", "Parameters", "Attributes") and stripped:
            depth = len(line) - len(line.lstrip())
            # The first argument sets the indentation; deeper lines continue its text.
            indent = indent or depth
            found = _ARGUMENT.fullmatch(stripped) if depth <= indent else None
            if found:
                # ``*rest`` and ``**options`` are documented with their stars.
                name = found["name"].lstrip("*")
                about[name] = found["text"]
            elif name:
                about[name] = f"{about[name]} {stripped}".strip()
    # Paragraphs stay apart and lines are joined: docstrings are wrapped, an LLM's description is not.
    paragraphs = "\n".join(text).strip().split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs), about

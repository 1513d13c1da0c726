"""Rules 1 and 2 for prose in CONTRIBUTING.md: no riddles, and docstrings whose first line is one plain clause.

Also the reason behind each ``# noqa`` (rule 7), and the rule for tests: a name of at most eight words, and a docstring.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "patter_trio"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
FOLDERS = ("patter_trio", "tests", "benchmarks", "docs", "examples")
"""Folders with the code of the project."""
MAX_WORDS_OF_NAME = 8

RIDDLES = re.compile(
    r"""
      \b (?:is|are) \s none \b (?!,)
    | \b is \s no \s (?! longer | such | more | need | way | point | reason ) [a-zA-Z]+ \b
    | \b [Oo]f \s which \b
    | \b [Ww]hat \s is \s other \b
    | \b [Ss]o \s (?:many|much) \b (?! \s (?:that|as) \b )
    | \b [Ww]ho (?:ever)? \s [a-z]+s \s [^.,;]{0,40} \s (?:is|has|hears) \b
    | \b [Ww]hoever \b
    """,
    re.VERBOSE,
)
"""Phrases that a reader has to decode."""

UNEXPLAINED = re.compile(r"# noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* \(.+\))")
"""A suppressed finding of the linter without its rule or without a reason."""

OTHER_WORDS = re.compile(r"(?i)\b(recogni[sz]ers?|synthesi[sz]ers?|(is|are|was|were|be|been)\stold)\b")
"""Words for which docs/glossary.md has others: STT, TTS; and for which rule 4 wants a verb with an actor."""

POINTING = re.compile(
    "how|its?|nobody|nothing|one's|somebody|that|their|there|these|they|this|what(ever)?|when|where|whether|which"
    "|who(ever|m|se)?"
)
"""First words that point at the thing being defined instead of naming it."""

NOT_IMPERATIVE = re.compile("an?|all|any|as|each|every|false|have|his|learn|none?|one|some|the|true")
"""Further first words with which the docstring of a function does not begin."""

INDIRECT = ("say how", "say what", "say when", "say where", "say whether", "say which", "say who", "take note")
"""Imperatives that do not say what the function does; "Return True if ..." does."""

OTHER_VERB_FORM = re.compile("(?!bring$|string$|focus$|process$).*([^s]s|ing)")
"""Verbs as in "Returns ..." and "Returning ..."."""


def riddles(text: str) -> list[str]:
    """Return the phrases of a text that rule 1 refuses; a phrase may run over the end of a line."""
    return [match[0] for match in RIDDLES.finditer(" ".join(text.split()))]


def other_words(text: str) -> list[str]:
    """Return the words of a text for which the vocabulary has others."""
    return [match[0] for match in OTHER_WORDS.finditer(" ".join(text.split()))]


def comments(source: str) -> Iterator[str]:
    """Yield the blocks of comments; consecutive lines are one text."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield " ".join(block)
                block = []
            block.append(token.string.lstrip("# "))
            last = token.start[0]
    if block:
        yield " ".join(block)


def is_message(node: ast.AST) -> bool:
    """Return True for a statement or call whose texts people read: ``raise``, a log line, a warning."""
    if isinstance(node, ast.Raise):
        return True
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = ast.unparse(node.func.value)
    return owner.endswith(("_log", "logger", "log")) or (owner == "warnings" and node.func.attr == "warn")


def texts(node: ast.AST) -> str:
    """Return the string constants below a node, joined, with a placeholder for each inserted value."""
    parts: list[str] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            parts.append(child.value)
        elif isinstance(child, ast.FormattedValue):
            parts.append("X")
    return " ".join(parts)


def prose(source: str) -> Iterator[str]:
    """Yield each docstring, comment, error message and log line of a module."""
    yield from comments(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
        elif is_message(node):
            yield texts(node)


Defined = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def is_property(node: Defined) -> bool:
    """Return True if a function is read like an attribute."""
    names = [ast.unparse(one) for one in getattr(node, "decorator_list", [])]
    return any(name.endswith(("property", ".setter", "field", ".default", "fixture")) for name in names)


def first_line_is_plain(node: Defined, line: str) -> bool:
    """Return True if the first line of a docstring follows rule 2.

    A function begins with an imperative. Everything else begins with the name of a thing, not with a pronoun for it.
    """
    word = re.split(r"[\s,.:;]", line.lower(), maxsplit=1)[0]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_property(node):
        return not POINTING.fullmatch(word)
    refused = (POINTING, NOT_IMPERATIVE, OTHER_VERB_FORM)
    return not line.lower().startswith(INDIRECT) and not any(words.fullmatch(word) for words in refused)


def first_lines(source: str) -> Iterator[str]:
    """Yield the public definitions whose docstring breaks rule 2, each with its first line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Defined):
            continue
        name = getattr(node, "name", "the module")
        line = (ast.get_docstring(node) or "").partition("\n")[0]
        if line and not name.startswith("_") and not first_line_is_plain(node, line):
            yield f"{name}: {line}"


def findings(file: Path) -> list[str]:
    """Return what rules 1 and 2 refuse in a module, and the words that rules 3 and 4 replace."""
    source = file.read_text(encoding="utf-8")
    found = [phrase for text in prose(source) for phrase in [*riddles(text), *other_words(text)]]
    return found + list(first_lines(source))


def unexplained(source: str) -> list[str]:
    """Return the comments that suppress a finding of the linter without a reason in parentheses."""
    # Taking a file apart is slow, and few files have anything like it in them.
    if not UNEXPLAINED.search(source):
        return []
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT and UNEXPLAINED.search(token.string)]


def unclear_tests(source: str) -> Iterator[str]:
    """Yield the tests of a module whose docstring is missing or a riddle, or whose name is too long."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            words = node.name.removeprefix("test_").split("_")
            text = ast.get_docstring(node) or ""
            if not text or riddles(text) or len(words) > MAX_WORDS_OF_NAME:
                yield node.name


def test_no_page_has_riddles() -> None:
    """No page of the documentation has a phrase that rule 1 refuses, or a word for which the vocabulary has another."""
    assert not [
        (page, phrase)
        for page in PAGES
        for text in page.read_text(encoding="utf-8").split("\n\n")
        for phrase in [*riddles(text), *other_words(text)]
    ]


@pytest.mark.deep
def test_each_module_keeps_the_prose_rules() -> None:
    """Docstrings, comments, errors and log lines keep rules 1 and 2."""
    found = {file: findings(file) for file in FILES}
    assert {file: phrases for file, phrases in found.items() if phrases} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_noqa_has_a_reason(folder: str) -> None:
    """Each ``# noqa`` names its rule and has a reason in parentheses."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {file.relative_to(ROOT).as_posix(): unexplained(file.read_text(encoding="utf-8")) for file in files}
    assert {file: comments for file, comments in found.items() if comments} == {}


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# noqa: S603 (ours)", False),
        ("# noqa: ANN001, ANN002 (as the page has it)", False),
        ("# type: ignore[misc]  # noqa: S603 (ours)", False),
        ("# noqa", True),
        ("# noqa: S603", True),
        ("# noqa: S603 - ours", True),
        ("# noqa (ours)", True),
    ],
)
def test_noqa_without_reason_is_found(comment: str, found: bool) -> None:
    """A ``# noqa`` without a rule, or without a reason in parentheses, is found."""
    assert bool(unexplained(f"x = 1  {comment}\n")) is found
    assert unexplained(f"x = {comment!r}\n") == []


def test_each_test_has_docstring_and_short_name() -> None:
    """Each test has a docstring without riddles and a name of at most eight words."""
    found = {file: list(unclear_tests(file.read_text(encoding="utf-8"))) for file in TESTS}
    assert {file: unclear for file, unclear in found.items() if unclear} == {}


@pytest.mark.parametrize(
    ("source", "unclear"),
    [
        ('def test_a():\n    """The agent greets the caller."""', False),
        ('class TestA:\n    async def test_a(self):\n        """The agent greets the caller."""', False),
        ("def test_a():\n    assert True", True),
        ("class TestA:\n    async def test_a(self):\n        assert True", True),
        ('def test_a_b_c_d_e_f_g_h_i():\n    """The agent greets the caller."""', True),
        ('def test_a():\n    """A webhook_url that is none greets nobody."""', True),
        ("def helper():\n    assert True", False),
    ],
)
def test_unclear_test_is_found(source: str, unclear: bool) -> None:
    """The check finds a missing docstring, a riddle and a name of nine words, also within a class."""
    assert bool(list(unclear_tests(source))) is unclear


@pytest.mark.parametrize(
    "text",
    [
        "a webhook_url that is none",
        "half a character is no text that can be said",
        "the parts of which it is made",
        "so many calls at once",
        "Who hangs up in mid-word is heard to the end",
        "whoever asks",
        "A phrase over two lines is\n    no exception",
    ],
)
def test_riddle_is_found(text: str) -> None:
    """The phrases that rule 1 is about are found, also across the end of a line."""
    assert riddles(text)


@pytest.mark.parametrize(
    "text",
    [
        "None is silence",
        "the task is no longer needed",
        "a caller who hangs up in mid-word",
        "so much that the queue is full",
        "the queue is not empty",
    ],
)
def test_plain_text_passes(text: str) -> None:
    """Plain sentences that resemble a riddle pass."""
    assert not riddles(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the recogniser fails", ["recogniser"]),
        ("Synthesizers of three vendors", ["Synthesizers"]),
        ("the engine is\n    told to stop", ["is told"]),
        ("the words are recognised", []),
        ("the call tells the engine to stop", []),
    ],
)
def test_other_words_are_found(text: str, found: list[str]) -> None:
    """Words outside the vocabulary are found, also across the end of a line."""
    assert other_words(text) == found


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ('def f():\n    """Return True if the call is over."""', True),
        ('def f():\n    """Whether the call is over."""', False),
        ('def f():\n    """Say whether the call is over."""', False),
        ('def f():\n    """Have the carrier hang up."""', False),
        ('def f():\n    """Returns the call."""', False),
        ('def f():\n    """The calls that are live."""', False),
        ('def f():\n    """Pass the audio on."""', True),
        ('def f():\n    """Take the next input."""', True),
        ('def f():\n    """Take note of a mark."""', False),
        ('class C:\n    """What a handle has."""', False),
        ('class C:\n    """A handle of a call."""', True),
        ('class C:\n    @property\n    def p(self):\n        """Its number."""', False),
        ('class C:\n    @property\n    def p(self):\n        """The number of calls."""', True),
    ],
)
def test_first_lines_are_judged(source: str, plain: bool) -> None:
    """A function's docstring begins with an imperative, that of a class or property with a noun phrase."""
    assert (not list(first_lines(source))) is plain


def test_errors_and_logs_are_read() -> None:
    """The texts of raise statements and of log calls count as prose, whatever is inserted into them."""
    source = 'def f(x):\n    _log.warning("call %s: this is none", x)\n    raise ValueError(f"{x} is no number")\n'
    assert {riddle for text in prose(source) for riddle in riddles(text)} == {"is none", "is no number"}

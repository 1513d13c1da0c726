"""Every Python snippet in README and docs runs; those of docs with ``--deep``."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(
        codes[:number],
        code,
        id=f"{page.relative_to(ROOT / 'docs') if page.parent != ROOT else page.name}-{number}",
        marks=() if page.name == "README.md" else pytest.mark.deep,
    )
    for page in PAGES
    for codes in [re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)]
    for number, code in enumerate(codes)
]


@pytest.mark.parametrize(("before", "code"), SNIPPETS)
def test_snippet_runs(before: list[str], code: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snippet runs without an error. Snippets before it that name a file (``# parrot.py``) can be imported."""
    for variable in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(variable)  # what snippets go through has tests of its own
    for other in before:
        if name := re.match(r"# (\w+)\.py\n", other):
            pytester.makepyfile(**{name[1]: other})
    if "def test_" in code:
        pytester.makepyfile(code)
        result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()
        return
    program = pytester.makepyfile(snippet=code)
    result = pytester.runpython(program)
    assert result.ret == 0, result.stderr.str()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file that exists."""
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken

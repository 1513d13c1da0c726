"""Write docs/providers/matrix.md, or the table of docs/carriers.md, from a run of the tests that the page is about.

``python docs/make_matrix.py [options of pytest]`` runs the tests of providers, and with ``carriers`` as its first
argument those of docs/carriers.toml.

This script lists no provider. Every test ``test_<provider>_conforms`` whose parameter is a check of the kit becomes a
column; the kinds are the ``*_CHECKS`` of ``patter_trio.testing``; each file ``test_<vendor>_oracle.py`` becomes a table
of what the vendor's package confirms, with a row for each test name.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

import patter_trio.testing
from patter_trio.testing.simulation.carriers import CARRIERS

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = Path(__file__).with_name("providers") / "matrix.md"
CHECKS: Final[Mapping[str, tuple[str, ...]]] = {
    name.removesuffix("_CHECKS"): getattr(patter_trio.testing, name)
    for name in ("STT_CHECKS", "LLM_CHECKS", "TTS_CHECKS", *sorted(dir(patter_trio.testing)))
    if name.endswith("_CHECKS")
}
TITLES: Final = {
    "STT": "Speech-to-text (STT)",
    "LLM": "Language models (LLM)",
    "TTS": "Text-to-speech (TTS)",
    "ENGINE": "Engines",
}
KINDS: Final = {"STT": "STT", "LLM": "LLM", "TTS": "TTS", "ENGINE": "engine"}
HEAD: Final = """# What is tested for each provider

This page is generated from a run of the tests by `python docs/make_matrix.py`. There are two kinds of proof:

* **the kit**: the [checks](../providers.md#what-is-checked) that every provider must pass. Providers of vendors are
  checked against fakes of the vendors, behind a proxy that stalls, cuts connections and sends garbage. Tests with
  [defective providers](../../tests/conformance/test_kit.py) prove that each check finds its defect. A cell is empty if
  the check is about a vendor and the provider does not have one;
* **an oracle**: the package that the vendor publishes, in an exact version. Its types validate what we send and
  generate what we must understand, and its client talks to our fake. So the fake matches the vendor as far as the
  package describes it. What the vendor's servers do beyond that, only a test with an account can show.

"""

Results = Mapping[str, str]
"""The outcome of each test, by its id: ``passed``, ``failed`` or ``skipped``."""


def files() -> list[Path]:
    """Return the test files from which the page is generated."""
    of_kit = re.compile(r"^(async )?def test_\w+_conforms\(", re.MULTILINE)
    return [
        path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if path.stem.endswith("_oracle") or of_kit.search(path.read_text(encoding="utf-8"))
    ]


def of_providers() -> list[str]:
    """Return the arguments that select the tests of the providers' page."""
    return ["-k", "_conforms or _oracle", *map(str, files())]


def _pytest(selection: Sequence[str], *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "--deep", *options, *selection]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout  # noqa: S603 (ours)


def collected(selection: Sequence[str]) -> list[str]:
    """Return the ids of all tests of a page, without running them.

    Raises:
        SystemExit: A test file cannot be imported, or a test does not exist.
    """
    output = _pytest(selection, "--collect-only")
    if re.search(r"^ERROR", output, re.MULTILINE):
        raise SystemExit(output[-2000:])
    return [line for line in output.splitlines() if "::" in line]


def run(selection: Sequence[str], options: list[str]) -> Results:
    """Run the tests and return their outcomes; a test that pytest does not report was skipped."""
    results = dict.fromkeys(collected(selection), "skipped")
    output = _pytest(selection, "-rpfE", *options)
    for word, rest in re.findall(r"^(PASSED|FAILED|ERROR) (.+)$", output, re.MULTILINE):
        test = rest if rest in results else next(name for name in results if rest.startswith(f"{name} - "))
        results[test] = "passed" if word == "PASSED" and results[test] != "failed" else "failed"
    sys.stdout.write(output[-2000:])
    return results


# The kit --------------------------------------------------------------------------------------------------------------
@attrs.define
class Provider:
    """One provider, and the outcomes of its checks."""

    name: str
    checks: dict[str, str] = attrs.field(factory=dict)

    @property
    def kind(self) -> str:
        """The provider's kind: the only one that has all of its checks.

        Raises:
            SystemExit: No kind has all of them, or more than one has.
        """
        kinds = [kind for kind, names in CHECKS.items() if self.checks.keys() <= set(names)]
        if len(kinds) != 1:
            raise SystemExit(f"{self.name}: its checks must belong to exactly one kind, got {kinds or 'none'}")
        return kinds[0]


def providers(results: Results) -> list[Provider]:
    """Return the providers that the kit checked, by name."""
    known = sorted({name for names in CHECKS.values() for name in names}, key=len, reverse=True)
    found: dict[str, Provider] = {}
    for test, outcome in results.items():
        match = re.search(r"::test_(\w+)_conforms\[(.+)\]$", test)
        check = next((name for name in known if match and name in match[2]), "")
        if match and check:
            name = f"{match[1].replace('_', ' ')} {match[2].replace(check, '').strip('-')}".strip()
            found.setdefault(name, Provider(name)).checks[check] = outcome
    return [found[name] for name in sorted(found, key=lambda name: (name.startswith("scripted"), name))]


def shown(outcome: str | None) -> str:
    """Return the text of a cell; empty if the check was not run."""
    return {"passed": "yes", "failed": "**no**", None: ""}.get(outcome, str(outcome))


def table_of(kind: str, those: list[Provider]) -> str:
    """Return the table of a kind: a row per check, a column per provider."""
    lines = [
        f"## {TITLES.get(kind, kind.capitalize())}",
        "",
        f"| check | {' | '.join(provider.name for provider in those)} |",
        f"|---|{'---|' * len(those)}",
    ]
    lines += [
        f"| {check} | {' | '.join(shown(provider.checks.get(check)) for provider in those)} |" for check in CHECKS[kind]
    ]
    return "\n".join(lines) + "\n"


# The oracles ----------------------------------------------------------------------------------------------------------
@attrs.define
class Oracle:
    """A test file that checks our code against a vendor's package."""

    path: Path
    tests: dict[str, Counter[str]] = attrs.field(factory=dict)
    """Counts of outcomes by test name, in the file's order."""

    @property
    def vendor(self) -> str:
        """The vendor's name, as in the names of providers."""
        return self.path.stem.removeprefix("test_").removesuffix("_oracle").replace("_", " ")

    @property
    def module(self) -> str:
        """The imported module, without which the tests are skipped."""
        match = re.search(r'(?:importorskip|vendor_module)\(\s*"(\w+)"', self.path.read_text(encoding="utf-8"))
        return match[1] if match else ""

    @property
    def package(self) -> str:
        """The package and its version, as pinned by the project."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        pins = project["optional-dependencies"]["oracles"]
        pin = next((pin for pin in pins if self.module and pin.startswith(self.module)), self.module)
        return " ".join(pin.split("=="))

    @property
    def about(self) -> str:
        """The first line of the file's docstring."""
        return (ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8"))) or "").partition("\n")[0]

    def count(self) -> tuple[int, int]:
        """Return the number of cases that passed, and the number of all cases."""
        every = sum(self.tests.values(), Counter[str]())
        return every["passed"], every.total()


def oracles(results: Results) -> list[Oracle]:
    """Return the oracles, sorted by vendor."""
    found: list[Oracle] = []
    for path in files():
        if not path.stem.endswith("_oracle"):
            continue
        oracle = Oracle(path)
        text = path.read_text(encoding="utf-8")
        mine = {test: end for test, end in results.items() if test.startswith(path.relative_to(ROOT).as_posix())}
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE):
            oracle.tests[name] = Counter(end for test, end in mine.items() if re.search(rf"::{name}(\[|$)", test))
        found.append(oracle)
    return sorted(found, key=lambda oracle: oracle.vendor)


def table_of_oracle(oracle: Oracle) -> str:
    """Return the table of an oracle."""
    lines = [f"## {oracle.package} for {oracle.vendor}", "", oracle.about, ""]
    lines += [f"Tests: [{oracle.path.name}](../../{oracle.path.relative_to(ROOT).as_posix()}).", ""]
    lines += ["| what it proves | cases | |", "|---|---:|---|"]
    for name, ends in oracle.tests.items():
        outcome = "passed" if ends.total() == ends["passed"] else "failed" if ends["failed"] else "skipped"
        lines.append(f"| {name.removeprefix('test_').replace('_', ' ')} | {ends.total()} | {shown(outcome)} |")
    return "\n".join(lines) + "\n"


# The page -------------------------------------------------------------------------------------------------------------
def summary(those: list[Provider], judges: list[Oracle]) -> str:
    """Return the summary table: a row per provider."""
    lines = [
        "| provider | kind | checks of the kit passed | cases of the vendor's oracle passed |",
        "|---|---|---|---|",
    ]
    for provider in those:
        every = len(CHECKS[provider.kind])
        passed = sum(outcome == "passed" for outcome in provider.checks.values())
        lacks = every - len(provider.checks)
        passes = f"{passed} of {every}" + (f" ({lacks} are about a vendor)" if lacks else "")
        judge = next((oracle for oracle in judges if oracle.vendor == provider.name), None)
        verdict = f"{judge.package}: {judge.count()[0]} of {judge.count()[1]}" if judge else ""
        lines.append(f"| {provider.name} | {KINDS.get(provider.kind, provider.kind.lower())} | {passes} | {verdict} |")
    return "\n".join(lines) + "\n"


def page(results: Results) -> str:
    """Return the page for these results."""
    those, judges = providers(results), oracles(results)
    kinds = [(kind, [one for one in those if one.kind == kind]) for kind in CHECKS]
    tables = [table_of(kind, mine) for kind, mine in kinds if mine]
    ordered = [one for _, mine in kinds for one in mine]
    return HEAD + "\n".join([summary(ordered, judges), *tables, *map(table_of_oracle, judges)])


# The carriers ---------------------------------------------------------------------------------------------------------
CARRIERS_PAGE: Final = Path(__file__).with_name("carriers.md")
BEGIN, END = "<!-- what is tested -->\n", "<!-- end of what is tested -->\n"


@attrs.frozen
class Feature:
    """A row of the carriers' table: the tests that prove a feature over each carrier, or why a carrier lacks it."""

    text: str
    tests: tuple[str, ...] = ()
    """Tests that run over each carrier, whose name is one of their parameters."""
    own: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Tests about one carrier alone, by its name."""
    lacks: Mapping[str, str] = attrs.field(factory=dict)
    """What a carrier has instead, by its name."""

    def cell(self, carrier: str, results: Results) -> str:
        """Return the text of a carrier's cell."""
        if carrier in self.lacks:
            return self.lacks[carrier]
        ends = Counter(end for test, end in results.items() if self._proves(carrier, test))
        if not ends:
            return ""
        return shown("failed" if ends["failed"] else "passed" if ends["passed"] else "skipped")

    def _proves(self, carrier: str, test: str) -> bool:
        name, _, case = test.removeprefix("tests/").partition("[")
        if name in self.own.get(carrier, ()):
            return True
        return name in self.tests and carrier in re.split(r"[^a-z]+", case)


def features() -> list[Feature]:
    """Return the rows of the carriers' table."""
    rows = tomllib.loads(Path(__file__).with_name("carriers.toml").read_text(encoding="utf-8"))["feature"]
    return [
        Feature(
            row["text"],
            tuple(row.get("tests", ())),
            {name: tuple(row[name]) for name in CARRIERS if isinstance(row.get(name), list)},
            {name: row[name] for name in CARRIERS if isinstance(row.get(name), str)},
        )
        for row in rows
    ]


def of_carriers() -> list[str]:
    """Return the arguments that select the tests of the carriers' table."""
    names = [name for row in features() for name in (*row.tests, *(one for own in row.own.values() for one in own))]
    return [f"tests/{name}" for name in dict.fromkeys(names)]


def table_of_carriers(results: Results) -> str:
    """Return the table of docs/carriers.md."""
    lines = ["| feature | Twilio | Telnyx | Plivo | proved by |", "|---|---|---|---|---|"]
    for row in features():
        names = dict.fromkeys([*row.tests, *(one for own in row.own.values() for one in own)])
        links = [f"[`{name.partition('::')[2]}`](../tests/{name.partition('::')[0]})" for name in names]
        cells = [row.cell(name, results) for name in CARRIERS]
        lines.append(f"| {row.text} | {' | '.join(cells)} | {'<br>'.join(links)} |")
    return "\n".join(lines) + "\n"


def carriers_page(text: str, results: Results) -> str:
    """Return docs/carriers.md with its table for these results."""
    table = BEGIN + table_of_carriers(results) + END
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)


def main(options: list[str]) -> Any:
    """Run the tests and write the page; return the tests that did not pass."""
    if options[:1] == ["carriers"]:
        results = run(of_carriers(), options[1:])
        text = CARRIERS_PAGE.read_text(encoding="utf-8")
        CARRIERS_PAGE.write_text(carriers_page(text, results), encoding="utf-8")
    else:
        results = run(of_providers(), options)
        PAGE.write_text(page(results), encoding="utf-8")
    return [test for test, outcome in results.items() if outcome != "passed"] or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What all tests share: the markers, what the default run leaves out, and both backends of an agent."""

import gc
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from patter_trio import Patter
from patter_trio.agent.hooks import _warn_of_legacy_form
from patter_trio.pricing.rates import _log_missing_price
from patter_trio.pytest_plugin import CallSimulator, PhoneNetworkFixture
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.call import ENGINE, PIPELINE, Backend

pytest_plugins = ["tests.kit.outside", "tests.kit.recordings", "tests.kit.watching"]
"""Fixtures that tests of several folders use; in tests/kit."""

# How long an example takes is the machine's business: no deadline, and no complaint about slow generation.
_ANY_PACE: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same examples in every run, few enough for a suite that takes minutes, and no database of failures to depend on.
settings.register_profile("default", derandomize=True, max_examples=25, **_ANY_PACE)
# ``--deep``: other examples in every run, from a seed that the header names; fewer where minutes are counted.
settings.register_profile("deep", derandomize=False, max_examples=400, print_blob=True, **_ANY_PACE)
settings.register_profile("after-quick", settings.get_profile("deep"), max_examples=100)
settings.load_profile("default")

# Judged: calls take most of the time, and by the second case most mistakes have been seen. A deep run has all.
CALL_CASES = 1
"""Cases of a test with whole calls that a quick run has with each backend, over each carrier; a deep run after it
measures the next one."""
# Judged: behind the words and the sound, a call with an engine is a call with a pipeline.
ENGINE_STRIDE = 3
"""Of a module's tests that run with both backends, each third runs with an engine in a quick run, too; the deep run
after it has one case of each other."""
# Judged: tests of single values often reach a line by one case alone. Measured: six are enough for the limit, too.
MEASURED_CHECKS = 6
"""The same for a test without a call."""
# They read files, or start programs of pages in processes of their own, whose lines other tests reach.
UNMEASURED_FOLDERS = frozenset({"benchmarks", "deploy", "docs"})
"""Folders whose tests say nothing about coverage."""
# Judged: the gate has a few minutes for them; all of them take the better part of an hour.
DEEP_CASES = 2
"""Cases of a test marked ``deep`` that run after a quick run, of whole calls one, and of a module's calls over each
other carrier; without it, a deep run has all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="run everything, with random examples in greater number")
    parser.addoption(
        "--product",
        action="store_true",
        help="with --deep, run the tests that are marked all_carriers over every carrier with both backends, and at "
        "the same depth; it takes most of an hour",
    )
    parser.addoption(
        "--after-quick",
        action="store_true",
        help="with --deep, for coverage after a quick run: of what that run did in the same way, do nothing that "
        "coverage does not measure, of each test with whole calls only the next case, of any other test "
        f"{MEASURED_CHECKS} cases, and of what is marked deep {DEEP_CASES}",
    )


@pytest.hookimpl(
    tryfirst=True
)  # before hypothesis takes the seed, and before pytest-xdist hands options to its workers
def pytest_configure(config: pytest.Config) -> None:
    if config.option.deep:
        profile = "after-quick" if config.option.after_quick else "deep"
        config.option.hypothesis_profile = config.option.hypothesis_profile or profile
        if config.option.hypothesis_seed is None:
            config.option.hypothesis_seed = str(random.SystemRandom().randrange(10**9))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: tests that wait for a socket or a process leave a core idle."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the command that repeats a deep run."""
    return f"repeat with: --deep --hypothesis-seed={config.option.hypothesis_seed}" if config.option.deep else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``deep``, unless asked for; after a quick run, what would be the same once more."""
    # The other carriers with the pipeline alone, at the depth of a quick run: what is behind the border is the same.
    if not config.option.product:
        items[:] = [item for item in items if not _is_product(item)]
    if config.option.deep and not config.option.after_quick:
        return
    left_out = _repetitions(items) if config.option.deep else _depths(items)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """Take what collection made out of the garbage collector's searches: it stays to the end.

    Measured: a full search of it takes 0.3 s, and a kit of conformance asks for one in each of its checks.
    """
    gc.collect()
    gc.freeze()


def _carrier_of(item: pytest.Item) -> str:
    carrier: str = getattr(getattr(item, "callspec", None), "params", {}).get("carrier", "twilio")
    return carrier


def _is_product(item: pytest.Item) -> bool:
    if _carrier_of(item) == "twilio":
        return False
    # Depth is for what Twilio shares with the others.
    deeper = _is_random(item) or {"deep", "stride"} & set(getattr(item, "fixturenames", ()))
    return bool(deeper) or _is_engine(item) or item.get_closest_marker("engine") is not None


def _is_deep(item: pytest.Item) -> bool:
    return item.get_closest_marker("deep") is not None


def _is_costly(item: pytest.Item) -> bool:
    return item.get_closest_marker("costly") is not None


def _is_random(item: pytest.Item) -> bool:
    return bool(getattr(getattr(item, "function", None), "is_hypothesis_test", False))


def _is_engine(item: pytest.Item) -> bool:
    return getattr(getattr(item, "callspec", None), "params", {}).get("backend") is ENGINE


def _is_unmeasured(item: pytest.Item) -> bool:
    if item.path.parent.name in UNMEASURED_FOLDERS:
        return True
    marked = any(item.get_closest_marker(name) is not None for name in ("deep", "no_coverage"))
    return marked or _is_random(item) or _is_engine(item)


def _is_call(item: pytest.Item) -> bool:
    return "call_simulator" in getattr(item, "fixturenames", ())


def _later_engines(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the calls with an engine that a quick run leaves to a deep one."""
    tests: dict[str, dict[str, int]] = {}
    later = set()
    for item in items:
        if not _is_engine(item) or not _is_call(item) or _is_deep(item):
            continue
        of_module = tests.setdefault(item.nodeid.partition("::")[0], {})
        if _is_costly(item) or of_module.setdefault(item.nodeid.partition("[")[0], len(of_module)) % ENGINE_STRIDE:
            later.add(item)
    return later


def _goes_deeper(item: pytest.Item) -> bool:
    # A test with ``deep`` among its fixtures goes further in a deep run than in a quick one.
    return (
        _is_deep(item)
        or _is_costly(item)
        or _is_random(item)
        or bool({"deep", "stride"} & set(getattr(item, "fixturenames", ())))
    )


def _depths(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return what a quick run leaves to a deep one."""
    cases: Counter[tuple[str, bool, str]] = Counter()
    later = _later_engines(items)
    left_out = []
    for item in items:
        test = (item.nodeid.partition("[")[0], _is_engine(item), _carrier_of(item))
        if _is_deep(item) or _is_costly(item) or item in later or (_is_call(item) and cases[test] == CALL_CASES):
            left_out.append(item)
        else:
            cases[test] += 1
    return left_out


def _repetitions(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return what a quick run did in the same way, except for what coverage measures."""
    later = _later_engines(items)
    measured = [item for item in items if item not in later and (_goes_deeper(item) or not _is_unmeasured(item))]
    in_all = Counter(map(_test_of, measured))
    cases: Counter[tuple[str, bool]] = Counter()
    left_out = set(items) - set(measured) - _first_cases(later, items)
    for item in measured:
        test = _test_of(item)
        number, cases[test] = cases[test], cases[test] + 1
        if _is_call(item) and not _is_deep(item):
            # The case behind those that the quick run had, so that both runs show something.
            is_wanted = number == min(CALL_CASES, in_all[test] - 1)
        else:
            deep_cases = min(CALL_CASES, DEEP_CASES) if _is_call(item) else DEEP_CASES
            is_wanted = number < (deep_cases if _is_deep(item) else MEASURED_CHECKS)
        if not is_wanted:
            left_out.add(item)
    return [item for item in items if item in left_out]


def _first_cases(chosen: set[pytest.Item], items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the first of the chosen cases of each test."""
    first: dict[str, pytest.Item] = {}
    for item in items:
        if item in chosen:
            first.setdefault(item.nodeid.partition("[")[0], item)
    return set(first.values())


def _test_of(item: pytest.Item) -> tuple[str, bool]:
    """Return what the cases of a test have in common."""
    deep = _is_deep(item)
    # Of a module's calls over another carrier, a few: thousands of them repeat what Twilio's run has shown.
    if deep and _carrier_of(item) != "twilio" and item.get_closest_marker("all_carriers") is not None:
        return f"{item.nodeid.partition('::')[0]} over {_carrier_of(item)}", deep
    return item.nodeid.partition("[")[0], deep


@pytest.fixture(scope="session")
def deep(pytestconfig: pytest.Config) -> bool:
    """Whether this run has time for great depth."""
    return bool(pytestconfig.option.deep)


@pytest.fixture(scope="session")
def stride(deep: bool) -> int:
    """How many steps of the event loop lie between two at which a test cancels what it tries."""
    return 1 if deep else 8


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with all carriers, and with both backends, where its module promises that all do the same."""
    definition = metafunc.definition
    carriers = definition.get_closest_marker("all_carriers")
    one = definition.get_closest_marker("one_carrier")
    if carriers is not None and one is None and "carrier" in metafunc.fixturenames:
        # Twilio alone in a quick run, except for a few whole calls: the others share all but the border.
        others = () if carriers.kwargs.get("quick") else pytest.mark.deep
        chosen = [name if name == "twilio" else pytest.param(name, marks=others) for name in CARRIERS]
        metafunc.parametrize("carrier", chosen, indirect=True)
    if "backend" not in metafunc.fixturenames or definition.get_closest_marker("both_backends") is None:
        return
    if definition.get_closest_marker("pipeline") is None:
        metafunc.parametrize("backend", [PIPELINE, ENGINE], ids=lambda backend: backend.name, indirect=True)


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> str | None:
    """Whose protocol the simulated calls of the test speak; None: that of the phone, or Twilio's."""
    return getattr(request, "param", None)


@pytest.fixture
def call_simulator(call_simulator: CallSimulator, carrier: str | None) -> CallSimulator:
    """Simulate calls as the plugin's fixture does, over the carrier of the test."""

    def simulator(agent: Any, phone: Patter | None = None, chosen: str | None = None, **options: Any) -> Any:
        return call_simulator(agent, phone, chosen or options.pop("carrier", None) or carrier, **options)

    return simulator


@pytest.fixture
def phone_network(phone_network: PhoneNetworkFixture, carrier: str | None) -> PhoneNetworkFixture:
    """Open networks of phones as the plugin's fixture does, over the carrier of the test."""

    def network(agent: Any, phone: Patter | None = None, chosen: str | None = None, **options: Any) -> Any:
        return phone_network(agent, phone, chosen or options.pop("carrier", None) or carrier, **options)

    return network


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """What the agents of the test answer with."""
    return getattr(request, "param", PIPELINE)


@pytest.fixture(autouse=True)
def unwarned(request: pytest.FixtureRequest) -> None:
    """Let each test get the warnings that a process gets once, whichever tests ran before it."""
    _warn_of_legacy_form.cache_clear()
    _log_missing_price.cache_clear()
    # Telnyx's is the one price that the package does not know, and a test that runs over all carriers is not about it.
    if _carrier_of(request.node) == "telnyx":
        _log_missing_price("telnyx", "minute")


@pytest.fixture(autouse=True)
def unmeasured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have coverage look away while code runs again that other tests measure.

    Measuring triples the time of such tests.
    """
    coverage = sys.modules.get("coverage") if _is_unmeasured(request.node) else None
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    measuring.start()

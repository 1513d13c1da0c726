"""What all tests share: how agents are made in them, and which of them are not measured.

What is promised of calls holds however the agent is made: tests of promises run with a pipeline, and with an engine.
"""

import inspect
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from patter_trio import Patter
from patter_trio.testing import ScriptedEngine

pytest.register_assert_rewrite("tests.kit")
pytest_plugins = ["tests.kit.recordings", "tests.kit.watching"]
"""Fixtures that tests of several folders use; in tests/kit."""

BOTH_WAYS = {
    "test_barge_in",
    "test_callbacks",
    "test_cancelled_server",
    "test_edge_promises",
    "test_edges",
    "test_event_bus",
    "test_facts",
    "test_metrics",
    "test_page_examples",
    "test_provider_failures",
    "test_speech_events",
    "test_spans",
    "test_start_and_end",
    "test_tools",
}
"""Modules whose tests of calls are run both ways, but for those marked ``@pytest.mark.pipeline("what a pipeline alone has")``."""
CALLS = {"call_simulator", "way"}
"""What a test of calls has as an argument."""

UNMEASURED = {
    "test_any_order",
    "test_corpus",
    "test_deepgram_oracle",
    "test_elevenlabs_oracle",
    "test_faults",
    "test_openai_oracle",
    "test_openai_realtime_oracle",
    "test_random_calls",
    "test_random_hooks",
    "test_realtime_random",
    "test_turn_properties",
}
"""Modules that go the same ways thousands of times, as hypothesis does, and the second of both ways. Measuring coverage triples
their time, and what is covered has tests of its own."""

# How long an example takes is the machine's business: no deadline, and no complaint about slow generation.
_ANY_PACE: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same examples in every run, few enough for a suite that takes minutes, and no database of failures to depend on.
settings.register_profile("default", derandomize=True, max_examples=40, **_ANY_PACE)
# ``--hypothesis-profile=deep``: other examples in every run, from a seed that the header names.
settings.register_profile("deep", derandomize=False, max_examples=400, print_blob=True, **_ANY_PACE)
settings.load_profile("default")


@pytest.hookimpl(
    tryfirst=True
)  # before hypothesis takes the seed, and before pytest-xdist hands options to its workers
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "pipeline(why): a promise about recogniser, model or voice, which an engine has not"
    )
    if config.option.hypothesis_profile == "deep" and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(10**9))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the command that repeats a deep run."""
    if config.option.hypothesis_profile != "deep":
        return None
    return f"repeat with: --hypothesis-profile=deep --hypothesis-seed={config.option.hypothesis_seed}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = metafunc.definition.get_closest_marker("pipeline") is not None
    wanted = CALLS & inspect.signature(metafunc.function).parameters.keys()
    if metafunc.module.__name__ in BOTH_WAYS and wanted and not marked:
        metafunc.parametrize("way", ["pipeline", "engine"], indirect=True)


@pytest.fixture(autouse=True)
def unmeasured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have coverage look away while the same ways are gone again."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    again = (
        request.module.__name__ in UNMEASURED
        or getattr(request.function, "is_hypothesis_test", False)
        or params.get("way") == "engine"
    )
    coverage = sys.modules.get("coverage") if again else None
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    measuring.start()


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have each agent of a test made so: with ``engine``, its mind and its voice are those of a scripted engine."""
    if getattr(request, "param", "pipeline") == "pipeline":
        yield "pipeline"
        return
    made: list[Any] = []
    make = Patter.agent

    def agent(self: Patter, *arguments: Any, **options: Any) -> Any:
        stt, llm, tts = (options.pop(part) for part in ("stt", "llm", "tts"))
        assert llm is not None, "on_message answers in this test: mark it, it is of a pipeline alone"
        named = {"provider": llm.provider, "model": llm.model}
        guesses = {"interim": True, "words_delay": 0.2} if getattr(stt, "interim_every", None) else {}
        made.append(make(self, *arguments, **options, engine=ScriptedEngine(llm=llm, tts=tts, **named, **guesses)))
        return made[-1]

    monkeypatch.setattr(Patter, "agent", agent)
    yield "engine"
    assert made, "no agent was made in this test: mark it, it is of a pipeline alone"

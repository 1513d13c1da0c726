"""The plugin under pytest: virtual time alone, with pytest-trio (mode, marker, its fixtures) and without it."""

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import patter_trio

pytest_plugins = ["pytester"]

PREAMBLE = """
import pytest, trio
from trio.testing import MockClock
from patter_trio import Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

agent = Patter().agent("x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS())

async def hold_a_call(call_simulator):
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
        assert caller.times("user_speech_eos") == [1.0]
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock) and clock.autojump_threshold == 0
"""

CALLS = (
    PREAMBLE
    + """
MARK
async def test_alone(call_simulator):
    await hold_a_call(call_simulator)

MARK
@pytest.mark.parametrize("number", [1, 2])
async def test_with_parameters(call_simulator, number, tmp_path):
    await hold_a_call(call_simulator)
"""
)

TRIO_CALLS = (
    CALLS
    + """
MARK
async def test_with_a_clock_of_its_own(autojump_clock, call_simulator):
    await hold_a_call(call_simulator)
    assert trio.lowlevel.current_clock() is autojump_clock

@pytest.fixture
async def by_a_fixture(call_simulator, nursery):
    nursery.start_soon(trio.sleep, 0)
    yield call_simulator

MARK
async def test_through_a_fixture(by_a_fixture):
    await hold_a_call(by_a_fixture)
"""
)

FAILURES = (
    PREAMBLE
    + """
MARK
async def test_fails(call_simulator):
    async with call_simulator(agent) as caller:
        await caller.waits(1)
        async with trio.open_nursery() as nursery:
            async def check():
                heard = "Yes."
                assert heard == "No."
            nursery.start_soon(check)

MARK
async def test_skips(call_simulator):
    async with call_simulator(agent):
        pytest.skip("not today")

MARK
async def test_is_expected_to_fail(call_simulator):
    async with call_simulator(agent):
        pytest.xfail("known")
"""
)


OPTIONS = ("-W", "error", "--strict-markers", "-p", "no:randomly", "-p", "no:anyio")


def run(pytester: pytest.Pytester, source: str, *options: str, mark: str = "") -> pytest.RunResult:
    """Run tests in this process, with the modules that it has imported."""
    pytester.makepyfile(source.replace("MARK", mark))
    return pytester.runpytest_inprocess(*OPTIONS, *options)


def run_apart(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Run tests in a process of their own, as users do."""
    pytester.makepyfile(source.replace("MARK", ""))
    plugin: tuple[str, ...] = ()
    if not any(point.value == "patter_trio.pytest_plugin" for point in entry_points(group="pytest11")):
        plugin = ("-p", "patter_trio.pytest_plugin")  # run from a checkout that is not installed
        pytester._monkeypatch.setenv("PYTHONPATH", str(Path(patter_trio.__file__).parents[1]))
    command = (sys.executable, "-m", "pytest", *OPTIONS)
    return pytester.run(*command, *plugin, *options, timeout=60)


def test_with_the_mode_of_pytest_trio(pytester: pytest.Pytester) -> None:
    """All five tests pass in virtual time with pytest-trio's trio_mode."""
    pytester.makeini("[pytest]\ntrio_mode = true")
    run(pytester, TRIO_CALLS).assert_outcomes(passed=5)


def test_with_the_marker_of_pytest_trio(pytester: pytest.Pytester) -> None:
    """All five tests pass in virtual time with pytest-trio's marker."""
    run(pytester, TRIO_CALLS, mark="@pytest.mark.trio").assert_outcomes(passed=5)


def test_with_pytest_trio_but_no_mode_or_marker(pytester: pytest.Pytester) -> None:
    """The plugin runs async tests when pytest-trio is installed and neither its mode nor its marker is set."""
    run(pytester, CALLS).assert_outcomes(passed=3)


def test_without_pytest_trio(pytester: pytest.Pytester) -> None:
    """All three tests without pytest-trio's fixtures pass when it is disabled."""
    run_apart(pytester, CALLS, "-p", "no:trio").assert_outcomes(passed=3)


OF_A_PROGRAM = """
from pathlib import Path
from patter_trio.testing import ScriptedLLM

PROGRAM = '''
from patter_trio import Patter
from patter_trio.testing import ScriptedLLM
phone = Patter(persist=True)
agent = phone.agent("x", first_message="Hello.", llm=ScriptedLLM(["Real."]))
'''

async def test_log_is_apart(call_simulator, tmp_path):
    Path("program.py").write_text(PROGRAM)
    async with call_simulator("program.py", llm=ScriptedLLM(["Yes."])) as caller:
        await caller.hears()
    assert (tmp_path / "patter.db").is_file()

async def test_network_is_apart(phone_network):
    Path("program.py").write_text(PROGRAM)
    async with phone_network("program.py", llm=ScriptedLLM(["Yes."])) as network, network.call_in() as caller:
        await caller.hears()

async def test_wrong_name(call_simulator):
    async with call_simulator("progam.py", llm=ScriptedLLM(["Yes."])):
        pass

def test_not_async(call_simulator):
    call_simulator("program.py")
"""


def test_program_logs_apart_from_its_customers(pytester: pytest.Pytester) -> None:
    """A test's calls go to a log of the test, not to that of ``persist=``; mistakes in its use say what to change."""
    result = run(pytester, OF_A_PROGRAM)
    result.assert_outcomes(passed=2, failed=2)
    assert not (pytester.path / "calls").exists()
    result.stdout.fnmatch_lines_random(
        [
            "E*call_simulator must get an agent, or the file of a program; progam.py is neither in * nor in *",
            "E*call_simulator must be used in a test that runs on trio, an `async def`; *",
        ]
    )


UNDER_ASYNCIO = """
import asyncio

def test_call(call_simulator):
    async def main():
        async with call_simulator(None):
            pass
    asyncio.run(main())
"""


def test_asyncio_is_told_what_to_change(pytester: pytest.Pytester) -> None:
    """A test that runs on asyncio fails with a message that names the setting of pytest-asyncio."""
    result = run(pytester, UNDER_ASYNCIO)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['E*call_simulator must be used in a test that runs on trio, *asyncio_mode = "strict"*']
    )


@pytest.mark.parametrize("options", [(), ("-p", "no:trio")])
def test_failures_are_shown_plainly_and_skips_are_skips(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    """A failure shows its assertion and the timeline without an exception group; a skip and an xfail count as such."""
    result = run(pytester, FAILURES, *options)
    result.assert_outcomes(failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: assert 'Yes.' == 'No.'", "E*The call:", "E*call_start*"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")
    result.stdout.no_fnmatch_line("*another exception occurred*")

"""The pytest plugin: the fixtures ``call_simulator`` and ``phone_network``, and virtual time for tests that use them.

A test that uses the fixture runs in a :func:`trio.run` of its own. Its mock clock jumps to the next thing to do, so a
call of minutes takes milliseconds and every instant is exact::

    async def test_greeting(call_simulator):
        async with call_simulator(agent) as caller:
            greeting = await caller.hears()

With pytest-trio (its mode or its marker), the test keeps everything that pytest-trio offers: other trio fixtures, and a
clock of the test's own choice (``autojump_clock``, ``mock_clock``), which then replaces the plugin's. pytest-trio looks
for a clock only among the test's direct arguments, but lets a marker name the function that runs the test: the plugin
passes its clock in that function. Without pytest-trio, the plugin runs the test itself.

Every pytest run in an environment with this package loads the plugin. It therefore imports trio and the simulator only
where a test uses them.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    import trio

    from patter_trio.agent.agent import Agent
    from patter_trio.phone import Patter
    from patter_trio.testing.simulation.caller import SimulatedCaller
    from patter_trio.testing.simulation.outbound import PhoneNetwork

FIXTURE: Final = "call_simulator"
NETWORK_FIXTURE: Final = "phone_network"
PYTEST_TRIO: Final = "trio"
"""The name under which pytest-trio registers itself."""

PhoneNetworkFixture = Callable[..., AbstractAsyncContextManager["PhoneNetwork"]]
"""``phone_network(agent, phone=None, carrier=None, **options)``; see ``patter_trio.testing.simulation.outbound``."""
CallSimulator = Callable[..., AbstractAsyncContextManager["SimulatedCaller"]]
"""``call_simulator(agent, phone=None, carrier=None, **options)``; see ``patter_trio.testing.simulation.simulator``."""


@pytest.fixture(name=FIXTURE)
def _call_simulator(request: pytest.FixtureRequest) -> CallSimulator:
    """Serve an agent, call it as a carrier does, and check the call: ``async with call_simulator(agent) as caller``.

    ``agent`` may be the file of a program: ``call_simulator("agent.py", llm=ScriptedLLM(["Hello."]))`` takes its phone,
    its agent and the functions named after callbacks, and puts scripted providers in place of its own
    (:func:`patter_trio.testing.scripted_providers`). The file is looked up beside the test, then in the current folder.
    """
    from patter_trio.testing.simulation.simulator import simulate_call  # noqa: PLC0415 (only for tests with calls)

    def simulator(
        agent: "Agent | str | Path", phone: "Patter | None" = None, carrier: str | None = None, **options: Any
    ) -> "AbstractAsyncContextManager[SimulatedCaller]":
        served, phone, options = _prepared(FIXTURE, request, agent, phone, options)
        return simulate_call(served, phone, carrier, **options)

    return simulator


@pytest.fixture(name=NETWORK_FIXTURE)
def _phone_network(request: pytest.FixtureRequest) -> PhoneNetworkFixture:
    """Serve an agent in a network of simulated phones that it can call: ``async with phone_network(agent) as network``.

    ``agent`` may be the file of a program, as for ``call_simulator``. See
    :mod:`patter_trio.testing.simulation.outbound`.
    """
    from patter_trio.testing.simulation.outbound import open_phone_network  # noqa: PLC0415 (only for tests with calls)

    def network(
        agent: "Agent | str | Path", phone: "Patter | None" = None, carrier: str | None = None, **options: Any
    ) -> "AbstractAsyncContextManager[PhoneNetwork]":
        served, phone, options = _prepared(NETWORK_FIXTURE, request, agent, phone, options)
        return open_phone_network(served, phone, carrier, **options)

    return network


def _prepared(
    fixture: str,
    request: pytest.FixtureRequest,
    agent: "Agent | str | Path",
    phone: "Patter | None",
    options: dict[str, Any],
) -> "tuple[Agent, Patter | None, dict[str, Any]]":
    """Return what a fixture serves: as it was given, or from a program's file beside the test."""
    _check_trio(fixture)
    if isinstance(agent, str | Path):
        folder: Path = request.getfixturevalue("tmp_path")
        return _from_file(_program_of(fixture, request.path.parent, agent), folder, phone, options)
    return agent, phone, options


def _program_of(fixture: str, folder: Path, agent: "str | Path") -> Path:
    """Return the file of a program, which is beside the test or in the current folder."""
    from patter_trio.errors import ConfigurationError  # noqa: PLC0415 (only for tests with calls)

    for path in (folder / agent, Path(agent)):
        if path.is_file():
            return path
    raise ConfigurationError(
        f"{fixture} must get an agent, or the file of a program; {agent} is neither in {folder} nor in {Path.cwd()}"
    )


def _check_trio(fixture: str) -> None:
    import trio  # noqa: PLC0415 (only for tests with calls)

    from patter_trio.errors import ConfigurationError  # noqa: PLC0415 (only for tests with calls)

    # Otherwise trio's own error would come from deep inside, and name no remedy.
    if not trio.lowlevel.in_trio_run():
        raise ConfigurationError(
            f"{fixture} must be used in a test that runs on trio, an `async def`; if pytest-asyncio runs this one, set "
            'its asyncio_mode = "strict", and remove the mark asyncio'
        )


def _from_file(
    path: Path, folder: Path, phone: "Patter | None", options: dict[str, Any]
) -> "tuple[Agent, Patter, dict[str, Any]]":
    """Return the agent of a program with scripted providers, its phone, and the options with its callbacks.

    Args:
        path: the program.
        folder: where its phone keeps the calls of the test, if it has a call log.
        phone: the phone that takes the place of the program's.
        options: those of the fixture.
    """
    from patter_trio.call_log.options import logging_into  # noqa: PLC0415 (only for tests with calls)
    from patter_trio.errors import ConfigurationError  # noqa: PLC0415 (only for tests with calls)
    from patter_trio.program import Script, load  # noqa: PLC0415 (only for tests with calls)
    from patter_trio.testing.scripted_providers.agents import PROVIDERS, scripted  # noqa: PLC0415 (only for tests with calls)

    # The program's own log would show calls of tests among those of customers.
    with logging_into(folder):
        program = load(path)
    if isinstance(program, Script):
        raise ConfigurationError(f"{path} must have `phone` and `agent` at its top level, got an `async def main()`")
    given = {name: options.pop(name) for name in PROVIDERS if name in options}
    # The test's own callbacks win: a test may replace one of the program's.
    return scripted(program.agent, **given), phone or program.phone, {**program.callbacks, **options}


def run(
    function: Callable[[], Awaitable[Any]],
    clock: "trio.abc.Clock | None" = None,
    instruments: "Sequence[trio.abc.Instrument]" = (),
) -> Any:
    """Run an async function like :func:`trio.run`, in virtual time unless a clock is given.

    If a nested exception group holds a single exception, raise that exception itself, so that pytest shows its
    assertion.
    """
    import trio  # noqa: PLC0415 (only for tests with calls)
    from trio.testing import MockClock  # noqa: PLC0415 (only for tests with calls)

    from patter_trio.testing.flat_nursery import raise_lone  # noqa: PLC0415 (only for tests with calls)

    __tracebackhide__ = True
    # Autojump 0: as soon as nothing can run, the clock jumps to the next deadline.
    chosen = MockClock(autojump_threshold=0) if clock is None else clock
    try:
        return trio.run(function, clock=chosen, instruments=instruments)
    except BaseExceptionGroup as group:
        # One exception alone is unwrapped; several stay a group, because none of them is the reason.
        raise_lone(group)


def _simulates(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and not {FIXTURE, NETWORK_FIXTURE}.isdisjoint(item.fixturenames)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make pytest-trio, if it is active, run the tests that simulate calls through our runner."""
    if not config.pluginmanager.hasplugin(PYTEST_TRIO):
        return
    for item in items:
        # A synchronous test may use the fixture, too, with a ``trio.run`` of its own.
        if _simulates(item) and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            # In front of the markers already present: the first marker that names a runner wins.
            item.add_marker(pytest.mark.trio(run=run), append=False)


# ``tryfirst``: pytest's own implementation would skip or fail an async test.
@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that simulates calls if pytest-trio is not there to do it."""
    if not _simulates(pyfuncitem) or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    # Only what the test asks for: ``funcargs`` has autouse fixtures as well.
    run(partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in wanted if name in pyfuncitem.funcargs}))
    # True ends the hook: the test has run.
    return True

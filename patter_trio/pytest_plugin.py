"""The pytest plugin: the ``call_simulator`` fixture, and virtual time for the tests that use it.

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
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    import trio

    from patter_trio.testing.simulation.caller import SimulatedCaller

FIXTURE: Final = "call_simulator"
PYTEST_TRIO: Final = "trio"
"""The name under which pytest-trio registers itself."""

CallSimulator = Callable[..., AbstractAsyncContextManager["SimulatedCaller"]]
"""``call_simulator(agent, phone=None, carrier="twilio", **callbacks)``; see ``patter_trio.testing.simulation.simulator``."""


@pytest.fixture(name=FIXTURE)
def _call_simulator() -> CallSimulator:
    """Serve an agent, call it as a carrier does, and check the call: ``async with call_simulator(agent) as caller``."""
    from patter_trio.testing.simulation.simulator import simulate_call  # noqa: PLC0415 (only for tests with calls)

    return simulate_call


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
    return isinstance(item, pytest.Function) and FIXTURE in item.fixturenames


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

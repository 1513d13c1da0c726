"""How a provider is put to the test: the bench that uses it, and the list of checks with their names."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import attrs
import trio

from patter_trio.errors import PatterConnectionError, ProviderError, leaves
from patter_trio.testing.conformance import probes
from patter_trio.testing.servers.fake_vendor import FakeVendor, ServeVendor

STEP_TIMEOUT_S: Final = 60.0
"""Seconds (on trio's clock) in which everything has to come to an end: an answer, a failure, a deadline."""
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that a session has to be gone in once it is cancelled or left: all of a call has to be, after a hang-up."""
STOP_TIMEOUT_S: Final = 0.05
"""Seconds from leaving a reply until its vendor knows."""
PERMITTED_ERRORS: Final = (ProviderError, PatterConnectionError)

T = TypeVar("T")


class NotConforming(AssertionError):
    """A provider is not what ``patter_trio/abc/`` demands: a line for each check that failed."""


@attrs.frozen
class Credentials:
    """How a provider is made without its credentials, and what its complaint has to name."""

    without: Callable[[], object]
    """Makes the provider without the argument; the environment variable is absent meanwhile."""
    argument: str
    variable: str
    secret: str = ""
    """The credential that the maker gives: must not be in the provider's ``repr``."""


@attrs.frozen
class Bench:
    """One provider, made as its author says, and the fake vendor that it talks to."""

    kind: type
    make: Callable[..., Any]
    serve: ServeVendor | None = None
    credentials: Credentials | None = None
    language: str = "en"
    points: int = 150
    """Most steps at which a use is cancelled; if it has more, they are spread evenly."""
    vendor: FakeVendor | None = None
    nurseries: Sequence[trio.Nursery] = ()
    """Those of the fake vendor, whose tasks are not the provider's."""

    def provider(self) -> Any:
        """Make the provider."""
        return self.make() if self.vendor is None else self.make(self.vendor.address)

    @property
    def fake(self) -> FakeVendor:
        """The fake vendor of a check that has one."""
        if self.vendor is None:
            raise RuntimeError("there is no fake vendor")
        return self.vendor

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Bench"]:
        """Return this bench with its vendor running, where there is one."""
        if self.serve is None:
            yield self
            return
        before = probes.nurseries_of_this_task()
        async with self.serve() as vendor:
            opened = [nursery for nursery in probes.nurseries_of_this_task() if nursery not in before]
            yield attrs.evolve(self, vendor=vendor, nurseries=opened)

    async def use(self, provider: Any, variant: int = 0) -> Any:
        """Use a session as a call does, from opening to closing, and return what came; two variants differ."""
        raise NotImplementedError

    def begun(self, provider: Any) -> AbstractAsyncContextManager[None]:
        """Give the block a reply that has begun; it is left where the block ends."""
        raise NotImplementedError

    def tasks(self) -> set[trio.lowlevel.Task]:
        """Return the tasks of this run but the vendor's."""
        return probes.tasks_but(self.nurseries)


@attrs.frozen
class Check:
    """A check: its name is what holds when it passes."""

    name: str
    run: Callable[[Any], Awaitable[None]]
    needs_vendor: bool = False
    needs_credentials: bool = False

    def can_run(self, bench: Bench) -> bool:
        """Say whether what it needs was given."""
        return (bench.serve is not None or not self.needs_vendor) and (
            bench.credentials is not None or not self.needs_credentials
        )


async def run_checks(bench: Bench, known: Sequence[Check], wanted: Sequence[str], without: Sequence[str]) -> None:
    """Run the checks of these names, or all that can be run but ``without``, and raise what failed.

    Raises:
        NotConforming: a line for each check that failed.
        ValueError: there is no check of that name, or what it needs was not given.
    """
    by_name = {check.name: check for check in known}
    for name in (*wanted, *without):
        if name not in by_name:
            raise ValueError(f"there is no check {name!r}; there are: {', '.join(by_name)}")
        if name in wanted and not by_name[name].can_run(bench):
            raise ValueError(f"the check {name!r} needs vendor= or credentials=")
    chosen = [by_name[name] for name in wanted] or [check for check in known if check.can_run(bench)]
    complaints: list[str] = []
    for check in chosen:
        if check.name not in without:
            complaints += await _complaint(bench, check)
    if complaints:
        raise NotConforming("\n".join(complaints))


async def _complaint(bench: Bench, check: Check) -> list[str]:
    async def run() -> None:
        async with bench.running() as ready:
            await check.run(ready)

    errors = await findings(run)
    broken = [error for error in errors if isinstance(error, NotConforming)]
    if broken:
        return [f"{check.name}: {' '.join(str(broken[0]).split())}"]
    if errors:
        return [f"{check.name}: {said(errors[0])} left it; nothing is to leave a provider whose vendor is well"]
    return []


async def findings(use: Callable[[], Awaitable[object]]) -> list[BaseException]:
    """Return all that went wrong in a use, each for itself; a cancellation goes on."""
    try:
        await use()
    except Exception as error:  # noqa: BLE001 (whatever a provider raises is a finding)
        return list(leaves(error))
    return []


def said(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def short(thing: object) -> str:
    """Return what came, in a few characters."""
    return repr(thing)[:80]


def demand(holds: object, did: str, demands: str) -> None:
    """Complain unless it holds: what the provider did, and what is demanded.

    Raises:
        NotConforming: it does not.
    """
    if not holds:
        raise NotConforming(f"{did}; {demands}")


@contextmanager
def finish_within(seconds: float, what: str, demands: str) -> Iterator[None]:
    """Complain when the block takes longer than so many seconds.

    Raises:
        NotConforming: it does.
    """
    began = trio.current_time()
    with trio.move_on_after(seconds) as scope:
        yield
    took = trio.current_time() - began
    demand(not scope.cancelled_caught and took <= seconds, f"{what} took more than {seconds:g} s", demands)


async def failure_of(use: Callable[[], Awaitable[object]], what: str) -> BaseException | None:
    """Return the error that a use ends with, None if it goes well.

    Raises:
        NotConforming: it takes too long, or something leaves that may not.
    """
    with finish_within(STEP_TIMEOUT_S, what, "every await has an owner of its deadline"):
        errors = await findings(use)
        for error in errors:
            if isinstance(error, NotConforming):
                raise error
            demand(
                isinstance(error, PERMITTED_ERRORS),
                f"{what}: {said(error)} left the session",
                "only ProviderError and its kinds may, with the cause kept",
            )
        return errors[0] if errors else None
    return None


async def settled(bench: Bench, before: set[trio.lowlevel.Task], what: str) -> None:
    """Wait until no task is left that was not there before.

    Raises:
        NotConforming: some are, after :data:`CLOSE_TIMEOUT_S`.
    """
    deadline = trio.current_time() + CLOSE_TIMEOUT_S
    while (left := bench.tasks() - before) and trio.current_time() < deadline:  # noqa: ASYNC110 (a task tells no end)
        await trio.sleep(CLOSE_TIMEOUT_S / 20)
    names = ", ".join(sorted(task.name.rpartition(".")[2] for task in left))
    demand(not left, f"{what} left tasks behind ({names})", "no task outlives the `async with` that opened it")


@attrs.define
class Cancelled:
    """How a use went that was cancelled at one of its steps."""

    steps: int = 0
    cancelled: bool = False
    result: Any = None
    errors: list[BaseException] = attrs.field(factory=list)
    took: float = 0.0
    """Seconds from the cancellation to the end."""


async def cancelled_at(use: Callable[[], Awaitable[Any]], at: int) -> Cancelled:
    """Run a use whose scope is cancelled at the end of its ``at``-th step; 0: never."""
    end = Cancelled()
    scope = trio.CancelScope()

    async def run() -> None:
        async def note() -> None:
            end.result = await use()

        with scope:
            end.errors = await findings(note)

    async with trio.open_nursery() as nursery:
        steps = probes.Steps(nursery, scope, at)
        trio.lowlevel.add_instrument(steps)
        nursery.start_soon(run)
    trio.lowlevel.remove_instrument(steps)
    end.steps, end.cancelled = steps.count, scope.cancel_called
    if steps.cancelled_at is not None:
        end.took = trio.current_time() - steps.cancelled_at
    return end

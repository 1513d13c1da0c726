"""The bench that uses a provider as a call does, and the runner of the named checks."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import attrs
import trio

from patter_trio.errors import PatterConnectionError, ProviderError, leaves
from patter_trio.testing.conformance import probes
from patter_trio.testing.servers.fake_vendor import FakeVendor, ServeVendor

# Theory of operation. A check gets a bench: a provider maker, a fake of its vendor, and a ``use`` that runs a
# session as a call runs it. A check never looks into the provider. It looks at what comes out, at what the
# fake vendor saw, and at the trio run: its tasks, sockets, channels and instants. Each check has a fake of its
# own, so that one that makes the vendor misbehave spoils no other. All failures are collected, because the
# author of a provider wants the whole list.
#
# The deadlines below count on trio's clock. With an autojump clock, waiting for them costs nothing, and a provider is
# not judged by the load of the machine.

# Six times the longest deadline that the package's own providers use by default: "some deadline", not "a short one".
STEP_TIMEOUT_S: Final = 60.0
"""Seconds (on trio's clock) within which each step must end: an answer, a failure, a deadline."""
# The bound that docs/design.md promises for leg and conversation after a hang-up; a session may use it up.
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds within which a cancelled or closed session must be gone, as after a hang-up all of a call must be."""
# One message on a loopback connection, with room for the steps of a task that sends it.
STOP_TIMEOUT_S: Final = 0.05
"""Seconds from leaving a reply until the vendor must know."""
# The two families that a call catches. Anything else would end it as a bug of this package.
PERMITTED_ERRORS: Final = (ProviderError, PatterConnectionError)

T = TypeVar("T")


class NotConforming(AssertionError):
    """A provider does not do what ``patter_trio/abc/`` demands; the message has a line for each failed check."""


@attrs.frozen
class Credentials:
    """A way to make the provider without its credentials, and the names that its error must contain."""

    without: Callable[[], object]
    """A function that makes the provider without the argument; the environment variable is unset meanwhile."""
    argument: str
    variable: str
    secret: str = ""
    """The credential that the maker passes; it must not appear in the provider's ``repr``."""


@attrs.frozen
class Bench(ABC):
    """A provider, made by its author's function, and the fake vendor that it talks to."""

    kind: type
    make: Callable[..., Any]
    serve: ServeVendor | None = None
    credentials: Credentials | None = None
    language: str = "en"
    # Bounds the time of the check: each point is a whole use, with connections of its own.
    points: int = 150
    """Maximum number of steps at which a use is cancelled; of a longer use, evenly spread steps are taken."""
    vendor: FakeVendor | None = None
    nurseries: Sequence[trio.Nursery] = ()
    """The nurseries of the fake vendor; their tasks are not the provider's."""

    def provider(self) -> Any:
        """Make the provider."""
        return self.make() if self.vendor is None else self.make(self.vendor.address)

    @property
    def fake(self) -> FakeVendor:
        """The fake vendor; only checks that need one may ask for it."""
        if self.vendor is None:
            raise RuntimeError("this check needs a fake vendor; pass vendor=")
        return self.vendor

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Bench"]:
        """Run the fake vendor, if there is one, and yield this bench with it."""
        if self.serve is None:
            yield self
            return
        # The fake opens its nurseries in this task. What is new afterwards is its own, and its tasks are not leaks.
        before = probes.nurseries_of_this_task()
        async with self.serve() as vendor:
            opened = [nursery for nursery in probes.nurseries_of_this_task() if nursery not in before]
            yield attrs.evolve(self, vendor=vendor, nurseries=opened)

    @abstractmethod
    async def use(self, provider: Any, variant: int = 0) -> Any:
        """Use a session as a call does, from opening to closing; return its result, which depends on ``variant``."""

    @abstractmethod
    def begun(self, provider: Any) -> AbstractAsyncContextManager[None]:
        """Begin a reply and run the block once it has begun; the end of the block leaves the reply."""

    def tasks(self) -> set[trio.lowlevel.Task]:
        """Return the tasks of this run, without those of the fake vendor."""
        return probes.tasks_but(self.nurseries)


@attrs.frozen
class Check:
    """A check, named by the property that holds if it passes."""

    name: str
    run: Callable[[Any], Awaitable[None]]
    needs_vendor: bool = False
    needs_credentials: bool = False

    def can_run(self, bench: Bench) -> bool:
        """Return True if the bench has what the check needs."""
        return (bench.serve is not None or not self.needs_vendor) and (
            bench.credentials is not None or not self.needs_credentials
        )


async def run_checks(bench: Bench, known: Sequence[Check], wanted: Sequence[str], without: Sequence[str]) -> None:
    """Run the named checks, or all that can run except ``without``, and raise the failures together.

    Raises:
        NotConforming: at least one check failed; the message has a line for each.
        ValueError: a name is unknown, or the vendor or the credentials that a named check needs were not given.
    """
    by_name = {check.name: check for check in known}
    for name in (*wanted, *without):
        if name not in by_name:
            raise ValueError(f"the name of a check must be one of {', '.join(by_name)}, got {name!r}")
        if name in wanted and not by_name[name].can_run(bench):
            raise ValueError(f"the check {name!r} needs vendor= or credentials=; pass it")
    chosen = [by_name[name] for name in wanted] or [check for check in known if check.can_run(bench)]
    complaints: list[str] = []
    for check in chosen:
        if check.name not in without:
            complaints += await _complaint(bench, check)
    if complaints:
        raise NotConforming("\n".join(complaints))


async def _complaint(bench: Bench, check: Check) -> list[str]:
    async def run() -> None:
        # A fake for each check, started within the function whose errors are collected: a
        # fake that crashes is a finding, too.
        async with bench.running() as ready:
            await check.run(ready)

    errors = await findings(run)
    # A failed demand comes first: what else was raised is often its consequence.
    broken = [error for error in errors if isinstance(error, NotConforming)]
    if broken:
        return [f"{check.name}: {' '.join(str(broken[0]).split())}"]
    if errors:
        return [f"{check.name}: it raised {said(errors[0])}; a provider raises nothing while its vendor works"]
    return []


async def findings(use: Callable[[], Awaitable[object]]) -> list[BaseException]:
    """Return the errors of a use, taken out of their groups; let a cancellation pass."""
    try:
        await use()
    # Not BaseException: a cancellation is not the provider's error, and swallowing it would break the check itself.
    except Exception as error:  # noqa: BLE001 (any exception that a provider raises is a finding)
        return list(leaves(error))
    return []


def said(error: BaseException) -> str:
    """Return an error as one line."""
    # An error may quote a whole answer of the vendor; a complaint is one line.
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def short(thing: object) -> str:
    """Return a value's ``repr``, shortened."""
    return repr(thing)[:80]


def demand(holds: object, did: str, demands: str) -> None:
    """Raise unless ``holds``; the message is what the provider did and what is demanded.

    Raises:
        NotConforming: ``holds`` is false.
    """
    if not holds:
        raise NotConforming(f"{did}; {demands}")


@contextmanager
def finish_within(seconds: float, what: str, demands: str) -> Iterator[None]:
    """Limit the block to ``seconds``.

    Raises:
        NotConforming: the block took longer.
    """
    began = trio.current_time()
    with trio.move_on_after(seconds) as scope:
        yield
    # Not only the cancellation counts: a block that blocks the loop, or shields itself, ends late without one.
    took = trio.current_time() - began
    demand(not scope.cancelled_caught and took <= seconds, f"{what} took more than {seconds:g} s", demands)


async def failure_of(use: Callable[[], Awaitable[object]], what: str) -> BaseException | None:
    """Return the error that a use ends with, or None if it succeeds.

    Raises:
        NotConforming: the use takes too long, or raises an error that a provider must not raise.
    """
    # The errors are judged inside the limit: a provider that turns its own cancellation into one is found, too.
    with finish_within(STEP_TIMEOUT_S, what, "every await has a deadline"):
        errors = await findings(use)
        for error in errors:
            if isinstance(error, NotConforming):
                raise error
            demand(
                isinstance(error, PERMITTED_ERRORS),
                f"{what}: the session raised {said(error)}",
                "a session raises only ProviderError and its subclasses, with the cause",
            )
        return errors[0] if errors else None
    # Not reached: leaving the block late raises. The type checker cannot know.
    return None


async def settled(bench: Bench, before: set[trio.lowlevel.Task], what: str) -> None:
    """Wait until every task that was started after ``before`` has ended.

    Raises:
        NotConforming: some still run after :data:`CLOSE_TIMEOUT_S`.
    """
    deadline = trio.current_time() + CLOSE_TIMEOUT_S
    # In small steps, so that a provider that tidies up in time is not held against it,
    # and one that never does costs 1 s.
    while (left := bench.tasks() - before) and trio.current_time() < deadline:  # noqa: ASYNC110 (a task has no end event)
        await trio.sleep(CLOSE_TIMEOUT_S / 20)
    names = ", ".join(sorted(task.name.rpartition(".")[2] for task in left))
    demand(not left, f"{what} left tasks behind ({names})", "no task outlives the `async with` that opened it")


@attrs.define
class Cancelled:
    """The outcome of a use that was cancelled at one of its steps."""

    steps: int = 0
    cancelled: bool = False
    result: Any = None
    errors: list[BaseException] = attrs.field(factory=list)
    took: float = 0.0
    """Seconds from the cancellation to the end of the use."""


async def cancelled_at(use: Callable[[], Awaitable[Any]], at: int) -> Cancelled:
    """Run a use and cancel its scope at the end of step number ``at``; 0 means never."""
    end = Cancelled()
    # Around the use only: the nursery and the instrument must outlive the cancellation, to see what it leaves.
    scope = trio.CancelScope()

    async def run() -> None:
        async def note() -> None:
            # Stored and not returned: the result of a use that was cancelled and ended
            # all the same is itself the fault.
            end.result = await use()

        with scope:
            end.errors = await findings(note)

    async with trio.open_nursery() as nursery:
        steps = probes.Steps(nursery, scope, at)
        # Before the task starts, so that its first step counts.
        trio.lowlevel.add_instrument(steps)
        nursery.start_soon(run)
    trio.lowlevel.remove_instrument(steps)
    end.steps, end.cancelled = steps.count, scope.cancel_called
    if steps.cancelled_at is not None:
        end.took = trio.current_time() - steps.cancelled_at
    return end

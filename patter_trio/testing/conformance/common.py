"""The checks that STT providers, LLMs, TTS providers and engines share."""

import copy
import os
import pickle
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from patter_trio.errors import AuthenticationError, ConfigurationError, ProviderError, ProviderTimeout, RateLimitError
from patter_trio.testing.conformance import probes
from patter_trio.testing.conformance.bench import (
    CLOSE_TIMEOUT_S,
    STEP_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Bench,
    Check,
    cancelled_at,
    demand,
    failure_of,
    findings,
    finish_within,
    said,
    settled,
    short,
)
from patter_trio.testing.servers.fake_vendor import Misbehaviour

# Few, because each is a whole session; enough to tell growth by one each time from a cache that was filled once.
_LEAK_CHECK_RUNS: Final = 3
"""Uses after which leftovers are counted; one use before them may fill caches."""
_MIN_LEAKING_RUNS: Final = 2
"""Leftovers from which they count as a leak: one of the uses may leave something behind, two may not."""


# The provider ---------------------------------------------------------------------------------------------------------
async def _is_of_its_kind(bench: Bench) -> None:
    provider = bench.provider()
    kind = bench.kind.__name__
    demand(
        isinstance(provider, bench.kind),
        f"{type(provider).__name__} is not an abc.{kind}",
        f"a provider is an abc.{kind}",
    )
    named = isinstance(provider.provider, str) and provider.provider
    demand(named, f"its provider is {provider.provider!r}", "metrics and prices need its name, a non-empty string")
    demand(isinstance(provider.model, str), f"its model is {provider.model!r}", "the name of a model is a string")


async def _is_frozen(bench: Bench) -> None:
    provider = bench.provider()
    names = (
        [field.name for field in attrs.fields(type(provider))] if attrs.has(type(provider)) else list(vars(provider))
    )
    # An attribute that does not exist yet, too: a class may protect its fields and still have a ``__dict__``.
    for name in [*names, "something_new"]:
        changed = await findings(partial(_set, provider, name))
        demand(changed, f"its {name} can be changed", "a provider is frozen, because all calls share it")


async def _set(provider: object, name: str) -> None:
    # To its own value: if the provider is not frozen, the rest of the checks still gets an unchanged one.
    setattr(provider, name, getattr(provider, name, None))


async def _can_be_copied(bench: Bench) -> None:
    provider = bench.provider()
    demands = "a provider can be copied and pickled and equals its copies, so that worker processes can get it"
    try:
        copies = [copy.deepcopy(provider), pickle.loads(pickle.dumps(provider))]  # noqa: S301 (our own)
        equal = all(one == provider for one in copies)
    # What copying and pickling raise for locks, sockets, lambdas and local classes.
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        demand(False, said(error), demands)
        return
    demand(equal, "a copy of it is not equal to it", demands)


@contextmanager
def _without(variable: str) -> Iterator[None]:
    # The variable may be set on the author's machine, where the provider would then be made from it.
    kept = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ[variable] = kept


async def _names_absent_credentials(bench: Bench) -> None:
    wanted = bench.credentials
    # Narrows the type; a check that needs credentials is not run without them.
    if wanted is None:
        return

    async def make() -> None:
        with _without(wanted.variable):
            wanted.without()

    demands = f"a ConfigurationError names the class, {wanted.argument}= and {wanted.variable}"
    errors = await findings(make)
    demand(errors, "it is made without credentials", demands)
    name = type(bench.provider()).__name__
    right = isinstance(errors[0], ConfigurationError) and all(
        part in str(errors[0]) for part in (name, wanted.argument, wanted.variable)
    )
    demand(right, f"without credentials: {said(errors[0])}", demands)


async def _keeps_its_secret(bench: Bench) -> None:
    wanted = bench.credentials
    if wanted is None:
        return
    provider = bench.provider()
    shown = wanted.secret and (wanted.secret in repr(provider) or wanted.secret in str(provider))
    demand(not shown, "its repr shows the credential", "credentials appear neither in a repr nor in a log")


# Sessions -------------------------------------------------------------------------------------------------------------
async def _works_again(bench: Bench) -> None:
    provider = bench.provider()
    with finish_within(2 * STEP_TIMEOUT_S, "prewarming it and two uses", "every await has a deadline"):
        # First, as a server does it; a provider without weights has nothing to do here.
        await provider.prewarm()
        first, second = await bench.use(provider), await bench.use(provider)
    demand(
        first == second,
        f"two equal uses gave {short(first)} and {short(second)}",
        "a provider keeps no state of a call",
    )


async def _keeps_sessions_apart(bench: Bench) -> None:
    provider = bench.provider()
    # Alone first: the comparison shows what the other session changed. The two utterances have different answers, so
    # that words that went to the wrong session are visible.
    alone = [await bench.use(provider, 0), await bench.use(provider, 1)]
    together: dict[int, Any] = {}

    async def one(variant: int) -> None:
        together[variant] = await bench.use(provider, variant)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        nursery.start_soon(one, 1)
    for variant, text in enumerate(alone):
        demand(
            together[variant] == text,
            f"a session gave {short(together[variant])} at the same time as another session, and {short(text)} alone",
            "concurrent sessions share nothing but the provider",
        )


async def _can_be_cancelled_anywhere(bench: Bench) -> None:
    provider = bench.provider()
    use = partial(bench.use, provider)
    # Once without a cancellation: it counts the steps, and gives the result that no cancelled use may have.
    whole = await cancelled_at(use, 0)
    # A provider that fails when left alone is not judged by how it is cancelled.
    for error in whole.errors:
        raise error
    steps = range(1, whole.steps + 1)
    # Each step is the state between two awaits: cancelling after every one of them covers every await of the provider.
    for number in steps if len(steps) <= bench.points else steps[:: -(-len(steps) // bench.points)]:
        before = bench.tasks()
        end = await cancelled_at(use, number)
        where = f"cancelled at step {number} of {whole.steps}, it"
        demand(
            not end.errors,
            f"{where} raised {said(end.errors[0]) if end.errors else ''}",
            "a cancelled session raises only Cancelled",
        )
        demand(
            # Not zero: closing may be shielded for a bounded time, such as for a close frame.
            end.took <= CLOSE_TIMEOUT_S,
            f"{where} was gone after {end.took:.1f} s",
            f"every await ends at once; closing takes at most {CLOSE_TIMEOUT_S:g} s",
        )
        demand(
            # The use may have been over already when the cancellation came; then it has the whole result. Part of it
            # means that Cancelled was caught and taken for an end.
            end.result is None or end.result == whole.result,
            f"{where} ended as if it had finished, with {short(end.result)}",
            "Cancelled is never swallowed",
        )
        await settled(bench, before, where)


async def _leaves_nothing_behind(bench: Bench) -> None:
    providers: list[object] = []  # kept alive, so that whatever they hold on to counts as left behind

    async def use_both() -> None:
        # Each use has its own fake vendor, which is gone afterwards: what the fake remembers must not count as a leak.
        async with attrs.evolve(bench, vendor=None, nurseries=()).running() as ready:
            provider = ready.provider()
            providers.append(provider)
            await ready.use(provider)
            async with ready.begun(provider):
                pass
            # What may end late has ended after this time, on both sides of the connection.
            await trio.sleep(CLOSE_TIMEOUT_S)

    # Once before counting: imports, caches and clients that are shared by all calls are filled once, and stay.
    await use_both()
    looks: dict[str, Callable[[], int]] = {
        "tasks": lambda: len(bench.tasks()),
        "sockets": probes.open_sockets,
        "ends of memory channels": probes.live_channels,
    }
    before = {name: look() for name, look in looks.items()}
    for _ in range(_LEAK_CHECK_RUNS):
        await use_both()
    for name, look in looks.items():
        more = look() - before[name]
        demand(
            more < _MIN_LEAKING_RUNS,
            f"{_LEAK_CHECK_RUNS} uses left {more} {name} behind",
            "a closed session leaves nothing behind",
        )


async def _can_be_left_in_the_middle(bench: Bench) -> None:
    provider = bench.provider()
    before = bench.tasks()
    async with bench.begun(provider):
        # The block has no await between here and its end: what is measured is the leaving alone.
        left_at = trio.current_time()
    took = trio.current_time() - left_at
    demand(
        took <= CLOSE_TIMEOUT_S,
        f"leaving it in the middle took {took:.1f} s",
        f"it takes at most {CLOSE_TIMEOUT_S:g} s",
    )
    await settled(bench, before, "leaving it in the middle")


async def demand_stop(bench: Bench, reply: AbstractAsyncContextManager[None]) -> None:
    """Leave a reply that has begun, and demand that the vendor knows within :data:`STOP_TIMEOUT_S`.

    Raises:
        NotConforming: the vendor saw nothing.
    """
    seen_later: list[object] = []

    async def look(before: int) -> None:
        await trio.sleep(STOP_TIMEOUT_S)
        seen_later.extend(bench.fake.seen[before:])

    async with trio.open_nursery() as nursery, reply:
        await trio.sleep(STOP_TIMEOUT_S / 2)  # requests that are still under way arrive first
        # Started within the reply: leaving the reply closes it before the nursery waits for this look.
        nursery.start_soon(look, len(bench.fake.seen))
    demand(
        seen_later,
        f"the vendor saw nothing within {STOP_TIMEOUT_S * 1000:g} ms after a reply was left",
        "leaving the context stops the generation: by a message, or by closing the connection",
    )


# The vendor misbehaves ------------------------------------------------------------------------------------------------
def _answers(kind: Misbehaviour, expected: type[ProviderError]) -> Callable[[Bench], Awaitable[None]]:
    async def check(bench: Bench) -> None:
        bench.fake.misbehave(kind)
        what = f"a vendor that answers {kind}"
        # A provider of its own for each status: a connection that an earlier use left open would not see the refusal.
        error = await failure_of(partial(bench.use, bench.provider()), what)
        demand(
            isinstance(error, expected),
            f"{what} caused {said(error) if error else 'no error'}",
            f"the session raises {expected.__name__}",
        )

    return check


async def _gives_up_a_half_open_connection(bench: Bench) -> None:
    # Before the provider connects: not even the handshake is answered.
    bench.fake.misbehave(Misbehaviour.HALF_OPEN)
    before = bench.tasks()
    error = await failure_of(
        partial(bench.use, bench.provider()), "a vendor that accepts the connection and sends nothing"
    )
    demand(
        isinstance(error, ProviderTimeout),
        f"a half-open connection caused {said(error) if error else 'no error'}",
        "the session raises ProviderTimeout",
    )
    await settled(bench, before, "a half-open connection")


async def _gives_up_a_stalled_answer(bench: Bench) -> None:
    bench.fake.misbehave(Misbehaviour.STALLED)
    error = await failure_of(partial(bench.use, bench.provider()), "an answer that stalls")
    demand(
        isinstance(error, ProviderTimeout),
        f"an answer that stalls caused {said(error) if error else 'no error'}",
        "the session raises ProviderTimeout",
    )


async def _reports_a_lost_connection(bench: Bench) -> None:
    bench.fake.misbehave(Misbehaviour.CLOSED)
    before = bench.tasks()
    what = "a connection that ends in the middle"
    error = await failure_of(partial(bench.use, bench.provider()), what)
    demand(error is not None, f"{what} was taken for a complete answer", "the session raises ProviderError")
    # A lost connection must not leave the task behind that would have closed it.
    await settled(bench, before, what)


async def _survives_garbage(bench: Bench) -> None:
    provider = bench.provider()
    bench.fake.misbehave(Misbehaviour.GARBAGE)
    # Whether it fails is left to the provider: some garbage can be skipped. ``failure_of`` judges how
    # it fails, and then it must work again.
    await failure_of(partial(bench.use, provider), "a vendor that sends garbage")
    bench.fake.misbehave("")
    await bench.use(provider)


async def _ignores_the_unknown(bench: Bench) -> None:
    provider = bench.provider()
    # The answer of a vendor that behaves: unknown messages must not change it, nor break it off.
    text = await bench.use(provider)
    bench.fake.misbehave(Misbehaviour.UNKNOWN)
    errors = await findings(partial(_same, bench, provider, text, "undocumented messages"))
    demand(not errors, said(errors[0]) if errors else "", "unknown messages and fields are ignored")


async def _waits_for_a_slow_vendor(bench: Bench) -> None:
    provider = bench.provider()
    text = await bench.use(provider)
    bench.fake.misbehave(Misbehaviour.SLOW)
    errors = await findings(partial(_same, bench, provider, text, "a vendor that is 0.2 s late each time"))
    demand(not errors, said(errors[0]) if errors else "", "a slow vendor is not a failed one")


async def _same(bench: Bench, provider: Any, text: Any, what: str) -> None:
    other = await bench.use(provider)
    demand(
        other == text, f"{what} changed the answer from {short(text)} to {short(other)}", "the answer stays the same"
    )


COMMON: Final = (
    Check("is of its kind and has a name", _is_of_its_kind),
    Check("is frozen", _is_frozen),
    Check("can be copied and pickled", _can_be_copied),
    Check("names absent credentials", _names_absent_credentials, needs_credentials=True),
    Check("keeps its secret", _keeps_its_secret, needs_credentials=True),
    Check("works again", _works_again),
    Check("keeps sessions apart", _keeps_sessions_apart),
    Check("can be cancelled anywhere", _can_be_cancelled_anywhere),
    Check("can be left in the middle", _can_be_left_in_the_middle),
    Check("leaves nothing behind", _leaves_nothing_behind),
    Check("401 is an AuthenticationError", _answers(Misbehaviour.UNAUTHORIZED, AuthenticationError), needs_vendor=True),
    Check("429 is a RateLimitError", _answers(Misbehaviour.RATE_LIMITED, RateLimitError), needs_vendor=True),
    Check("503 is a ProviderError", _answers(Misbehaviour.UNAVAILABLE, ProviderError), needs_vendor=True),
    Check("gives up a half-open connection", _gives_up_a_half_open_connection, needs_vendor=True),
    Check("reports a lost connection", _reports_a_lost_connection, needs_vendor=True),
    Check("survives garbage", _survives_garbage, needs_vendor=True),
    Check("ignores the unknown", _ignores_the_unknown, needs_vendor=True),
    Check("waits for a slow vendor", _waits_for_a_slow_vendor, needs_vendor=True),
)
"""The checks of every kind of provider."""
REPLIES: Final = (Check("gives up a stalled answer", _gives_up_a_stalled_answer, needs_vendor=True),)
"""The checks that LLMs, TTS providers and engines share."""

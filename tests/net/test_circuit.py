"""The circuit breaker: when a failing server gets no requests. It is a rule without a clock."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.net.circuit import MAX_FAILURES, MAX_REMEMBERED_SERVERS, OPEN_CIRCUIT_S, Circuits, Permit


def admitted(circuits: Circuits, now: float, server: str = "a") -> Permit:
    permit = circuits.admit(server, now)
    assert permit is not None
    return permit


def broken(server: str = "a") -> Circuits:
    """Return circuits whose server has just had its fifth failure in a row, at instant 0."""
    circuits = Circuits()
    for _ in range(MAX_FAILURES):
        admitted(circuits, 0.0, server).failed(0.0)
    return circuits


def test_circuit_opens_after_failures_for_exactly_the_pause() -> None:
    """A server that fails repeatedly in a row gets no request during the pause and one right after it."""
    circuits = broken()
    assert circuits.admit("a", 0.0) is None
    assert circuits.admit("a", OPEN_CIRCUIT_S - 0.001) is None
    assert circuits.admit("a", OPEN_CIRCUIT_S) is not None


def test_one_success_between_failures_keeps_it_closed() -> None:
    """One success between two rows of four failures keeps the circuit closed."""
    circuits = Circuits()
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            admitted(circuits, 0.0).failed(0.0)
        admitted(circuits, 0.0).succeeded()
    assert circuits.admit("a", 0.0) is not None


def test_what_was_given_up_says_nothing() -> None:
    """A request that was given up neither counts as a failure nor resets the count."""
    circuits = Circuits()
    for _ in range(MAX_FAILURES - 1):
        admitted(circuits, 0.0).failed(0.0)
        admitted(circuits, 0.0).given_up()
    admitted(circuits, 0.0).failed(0.0)
    assert circuits.admit("a", 0.0) is None


@pytest.mark.parametrize(
    ("end", "then", "later"),
    [
        ("succeeded", True, True),
        ("failed", False, True),
        ("given_up", True, False),  # the next one is the trial, and while it runs there is no other
    ],
)
def test_after_the_pause_one_tries_for_all(end: str, then: bool, later: bool) -> None:
    """After the pause of 30 s one request is the trial, and its result decides about the next ones."""
    circuits = broken()
    trial = admitted(circuits, OPEN_CIRCUIT_S)
    assert circuits.admit("a", OPEN_CIRCUIT_S) is None
    if end == "failed":
        trial.failed(OPEN_CIRCUIT_S + 1)
    else:
        getattr(trial, end)()
    assert (circuits.admit("a", OPEN_CIRCUIT_S + 2) is not None) is then
    assert (circuits.admit("a", 2 * OPEN_CIRCUIT_S + 1) is not None) is later


def test_only_the_first_word_about_a_request_counts() -> None:
    """Only the first result that a request reports counts: a later failure leaves the circuit closed."""
    circuits = broken()
    trial = admitted(circuits, OPEN_CIRCUIT_S)
    trial.succeeded()
    trial.failed(OPEN_CIRCUIT_S)
    trial.given_up()
    for _ in range(MAX_FAILURES):
        assert circuits.admit("a", OPEN_CIRCUIT_S) is not None


def test_requests_in_flight_do_not_prolong_the_pause() -> None:
    """Failures of requests in flight when the circuit opens do not prolong the pause."""
    circuits = Circuits()
    permits = [admitted(circuits, 0.0) for _ in range(2 * MAX_FAILURES)]
    for at, permit in enumerate(permits):
        permit.failed(float(at))
    opened = MAX_FAILURES - 1
    assert circuits.admit("a", opened + OPEN_CIRCUIT_S - 0.001) is None
    assert circuits.admit("a", opened + OPEN_CIRCUIT_S) is not None


def test_late_success_closes_the_circuit() -> None:
    """A late success of an earlier request closes the open circuit."""
    circuits = Circuits()
    slow = admitted(circuits, 0.0)
    for _ in range(MAX_FAILURES):
        admitted(circuits, 0.0).failed(0.0)
    assert circuits.admit("a", 1.0) is None
    slow.succeeded()
    assert circuits.admit("a", 1.0) is not None


def test_servers_have_nothing_to_do_with_each_other() -> None:
    """An open circuit of one server leaves another server's circuit closed."""
    assert broken().admit("b", 0.0) is not None


def test_circuit_forgets_healthy_servers_and_bounds_failing_ones() -> None:
    """The circuits forget healthy servers and remember a bounded number of failing ones."""
    circuits = broken()
    for number in range(3 * MAX_REMEMBERED_SERVERS):
        admitted(circuits, 0.0, f"well {number}").succeeded()
    assert repr(circuits) == "<Circuits of 2 servers>"
    assert circuits.admit("a", 0.0) is None
    for number in range(3 * MAX_REMEMBERED_SERVERS):
        admitted(circuits, 0.0, f"ill {number}").failed(0.0)
    assert repr(circuits) == f"<Circuits of {MAX_REMEMBERED_SERVERS} servers>"


@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "fail", "drop"]), st.floats(0.0, 20.0)), max_size=80))
def test_circuit_never_sticks_and_allows_one_trial(steps: list[tuple[str, float]]) -> None:
    """No sequence of results leaves the circuit open for ever or allows two trials at once."""
    circuits, now, pending = Circuits(), 0.0, list[Permit]()
    for what, later in steps:
        now += later
        if what == "ask":
            pending += [permit for permit in _ask_twice(circuits, now) if permit is not None]
        elif pending:
            permit = pending.pop(0)
            permit.succeeded() if what == "ok" else permit.failed(now) if what == "fail" else permit.given_up()
    assert sum(permit._is_trial for permit in pending) <= 1
    for permit in pending:
        permit.given_up()
    assert circuits.admit("a", now + OPEN_CIRCUIT_S) is not None


def _ask_twice(circuits: Circuits, now: float) -> Iterator[Permit | None]:
    yield circuits.admit("a", now)
    yield circuits.admit("a", now)

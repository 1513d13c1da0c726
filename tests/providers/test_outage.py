"""The rule by which sessions reopen a lost connection."""

from hypothesis import given
from hypothesis import strategies as st

from patter_trio.providers.outage import ATTEMPT_TIMEOUT_S, OUTAGE_TIMEOUT_S, RETRY_PAUSES_S, Outage


def test_outage_pauses_grow_to_one_second() -> None:
    """The first attempt comes at once, the pauses grow to 1 s, and the attempts end within 10 s."""
    outage, now, pauses = Outage(), 100.0, []
    while (pause := outage.lost(now)) is not None:
        pauses.append(pause)
        now += pause
    assert pauses == [*RETRY_PAUSES_S, *[RETRY_PAUSES_S[-1]] * 8]
    assert now < 100.0 + OUTAGE_TIMEOUT_S <= now + RETRY_PAUSES_S[-1]


def test_outage_end_restarts_the_rule() -> None:
    """After the end of an outage the next loss begins another one, with all its time."""
    outage = Outage()
    outage.lost(0.0)
    assert outage.lost(11.0) is None
    outage.end()
    assert outage.began is None
    assert outage.lost(11.0) == 0.0
    assert outage.began == 11.0


@given(st.lists(st.floats(0, 5), max_size=30))
def test_attempts_end_within_the_outage(durations: list[float]) -> None:
    """No attempt may last longer than the outage, whatever the attempts before it took."""
    outage, now = Outage(), 0.0
    for duration in durations:
        pause = outage.lost(now)
        if pause is None:
            return
        now += pause
        timeout = outage.attempt_timeout(now)
        assert 0 < timeout <= ATTEMPT_TIMEOUT_S
        assert now + timeout <= OUTAGE_TIMEOUT_S + 1e-9
        now += min(duration, timeout)

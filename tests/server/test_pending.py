"""Announced calls and their tokens."""

import math

import pytest

from patter_trio.abc import CallInfo
from patter_trio.server.pending import PendingCall, PendingCalls, TooManyPending


def announce(pending: PendingCalls, call_id: str = "CA1", now: float = 0.0) -> PendingCall:
    return pending.announce(CallInfo(call_id, "+15551234567", "+15557654321", "inbound", {"menu": "lunch"}), now)


def test_a_token_claims_its_call_once() -> None:
    """A token claims its call once, with the numbers and parameters of the announcement."""
    pending = PendingCalls()
    call = announce(pending)
    assert pending.claim("CA1", call.token, 1.0) is call
    assert (call.info.caller, call.info.custom_params) == ("+15551234567", {"menu": "lunch"})
    assert pending.claim("CA1", call.token, 1.0) is None


def test_a_wrong_token_claims_nothing_and_spoils_nothing() -> None:
    """A wrong token claims no call, and the right token still claims it afterwards."""
    pending = PendingCalls()
    one, other = announce(pending), announce(pending, "CA2")
    assert pending.claim("CA1", other.token, 0.0) is None
    assert pending.claim("CA1", "", 0.0) is None
    assert pending.claim("CA1", "\udc80é", 0.0) is None
    assert pending.claim("CA3", one.token, 0.0) is None
    assert pending.claim("CA1", one.token, 0.0) is one


def test_a_token_lives_for_exactly_a_minute() -> None:
    """A token is valid at 59.999 s and expired at 60 s."""
    pending = PendingCalls()
    early, late = announce(pending), announce(pending, "CA2")
    assert pending.claim("CA1", early.token, 59.999) is early
    assert pending.claim("CA2", late.token, 60.0) is None


def test_retried_webhook_renews_the_pending_token() -> None:
    """A retried webhook renews the token of the same pending call."""
    pending = PendingCalls()
    call = announce(pending)
    first = call.token
    assert announce(pending, now=50.0) is call
    assert (len(pending), call.expires) == (1, 110.0)
    assert pending.claim("CA1", first, 51.0) is None
    assert pending.claim("CA1", call.token, 109.0) is call


def test_expired_pending_calls_are_returned_once() -> None:
    """PendingCalls returns each call that never connects once, after its minute, and then forgets it."""
    pending = PendingCalls()
    one, other = announce(pending), announce(pending, "CA2", now=5.0)
    assert pending.next_expiry == 60.0
    assert pending.expire(59.0) == []
    assert pending.expire(60.0) == [one]
    assert pending.expire(60.0) == []
    assert pending.expire(math.inf) == [other]
    assert (len(pending), pending.next_expiry) == (0, math.inf)


def test_announced_calls_stay_within_the_limit() -> None:
    """PendingCalls announces no more calls than the limit allows."""
    pending = PendingCalls(limit=1)
    announce(pending)
    with pytest.raises(TooManyPending):
        announce(pending, "CA2")
    announce(pending)
    assert repr(pending) == "<PendingCalls 1 of 1>"


def test_the_token_does_not_show() -> None:
    """The repr of a pending call does not contain its token."""
    call = announce(PendingCalls())
    assert call.token not in repr(call)

"""The header ``Retry-After`` (RFC 9110, section 10.2.3)."""

from email.utils import parsedate_to_datetime


def seconds_of(retry_after: str, date: str) -> float | None:
    """Return the seconds that ``Retry-After`` asks to wait; None if it does not say.

    A point in time counts from the answer's own ``Date``, so that our clock need not agree with the server's.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])  # nine digits are 31 years, far beyond what anybody waits
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        # All that the parser raises for texts that are not a date. A header that cannot be read counts as absent.
        return None

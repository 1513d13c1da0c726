"""The header Retry-After, in both of its forms."""

import pytest

from patter_trio.net.retry_after import seconds_of


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("", "", None),
        (" 7 ", "", 7.0),
        ("-7", "", None),
        ("1.5", "", None),
        ("٣", "", None),
        ("Wed, 25 Nov 2026 10:00:05 GMT", "", None),
        ("Wed, 25 Nov 2026 10:00:05 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", 5.0),
        ("Wed, 25 Nov 2026 10:00:00 GMT", "Wed, 25 Nov 2026 10:00:05 GMT", 0.0),
        ("Wed, 25 Nov 2026 10:00:05", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Wed, 99 Nov 2026 10:00:05 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
    ],
)
def test_retry_after_takes_seconds_or_server_date(retry_after: str, date: str, seconds: float | None) -> None:
    """Retry-After is read as seconds, or as a date relative to the server's own Date header."""
    assert seconds_of(retry_after, date) == seconds

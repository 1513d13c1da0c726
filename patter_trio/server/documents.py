"""Documents that tell a carrier how live calls continue, each published for one call and for a minute.

Some carriers take no instructions in a request: they take a URL and fetch them. The webhook there is signed like any
other; the unguessable reference and the call's id decide which document it gets. A carrier repeats a request whose
answer was lost, so a document may be fetched again until it expires: a call that got nothing would be hung up.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

import attrs

# Judged: a carrier fetches it at once, or when the call's stream has ended, which takes seconds.
DOCUMENT_LIFETIME_S: Final = 60.0
"""Seconds for which a document can be fetched."""


@attrs.frozen
class _Document:
    text: str = attrs.field(repr=False)
    reference: str = attrs.field(repr=False)
    expires: float


class Documents:
    """The published documents of one server: the newest of each call. Time is an argument everywhere."""

    # 32 bytes from the system's source of randomness.
    def __init__(self, *, new_reference: Callable[[], str] = secrets.token_hex) -> None:
        # Bounded by the calls of a minute: one for each, and expired ones go when another is published.
        self._documents: dict[str, _Document] = {}
        self._new_reference = new_reference

    def __repr__(self) -> str:
        return f"<Documents {len(self._documents)}>"

    def publish(self, call_id: str, text: str, now: float) -> str:
        """Publish a document for a call, in the place of an earlier one; return its reference."""
        self._documents = {call: document for call, document in self._documents.items() if now < document.expires}
        reference = self._new_reference()
        self._documents[call_id] = _Document(text, reference, now + DOCUMENT_LIFETIME_S)
        return reference

    def find(self, call_id: str, reference: str, now: float) -> str | None:
        """Return the document of a call; None if it has expired, or was not published under this reference."""
        document = self._documents.get(call_id)
        if document is None or now >= document.expires:
            return None
        # ``replace``: the reference comes from a URL, and may have any character.
        same = hmac.compare_digest(document.reference.encode(), reference.encode(errors="replace"))
        return document.text if same else None

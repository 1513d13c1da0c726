"""Published documents: who gets one, and for how long."""

from patter_trio.server.documents import DOCUMENT_LIFETIME_S, Documents


def test_document_is_for_call_and_reference() -> None:
    """A document is found by its call and its reference together, again and again until it expires."""
    documents = Documents()
    reference = documents.publish("c1", "<Response/>", 10.0)
    other = documents.publish("c2", "<Other/>", 10.0)
    assert reference.isalnum()
    assert reference != other
    for now in (10.0, 10.0, 9.9 + DOCUMENT_LIFETIME_S):
        assert documents.find("c1", reference, now) == "<Response/>"
    assert documents.find("c1", other, 10.0) is None
    assert documents.find("c3", reference, 10.0) is None
    assert documents.find("c1", "\ud800", 10.0) is None
    assert documents.find("c1", "", 10.0) is None
    assert documents.find("c1", reference, 10.0 + DOCUMENT_LIFETIME_S) is None


def test_newer_document_replaces_older_one() -> None:
    """A second document of a call takes the place of the first, and expired ones are forgotten."""
    documents = Documents()
    first = documents.publish("c1", "<First/>", 0.0)
    second = documents.publish("c1", "<Second/>", 1.0)
    assert documents.find("c1", first, 1.0) is None
    assert documents.find("c1", second, 1.0) == "<Second/>"
    documents.publish("c2", "<Third/>", 1.0 + DOCUMENT_LIFETIME_S)
    assert repr(documents) == "<Documents 1>"

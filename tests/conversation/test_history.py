"""The history: what was said, and beside it what was done."""

from patter_trio.conversation.history import History


def told(history: History) -> list[object]:
    return [aside if entry is None else entry["text"] for entry, aside in history.with_asides()]


def test_what_was_put_aside_keeps_its_place_and_is_shown_to_no_callback() -> None:
    history = History()
    history.put_aside("first")
    history.add("user", "a", 1.0)
    history.put_aside("x")
    history.put_aside("y")
    history.add("assistant", "b", 2.0)
    history.put_aside("z")
    assert told(history) == ["first", "a", "x", "y", "b", "z"]
    assert [entry["text"] for entry in history.shown()] == [entry["text"] for entry in history.whole()] == ["a", "b"]
    history.replace_user("A", 3.0)
    assert told(history) == ["first", "A", "x", "y", "b", "z"]


def test_an_entry_that_is_removed_takes_nothing_with_it() -> None:
    history = History()
    history.add("user", "a", 1.0)
    history.put_aside("x")
    history.add("user", "b", 2.0)
    history.put_aside("y")
    history.remove_user()
    history.add("assistant", "c", 3.0)
    assert told(history) == ["a", "x", "y", "c"]

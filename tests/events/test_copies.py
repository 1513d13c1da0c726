"""The copies of payloads for callbacks: deep as far as a payload of usual size goes, and shared behind that."""

from patter_trio.events.callbacks import MAX_COPIED_ITEMS, copied


def test_copies_are_deep() -> None:
    """What a callback changes in its payload, at any level, no other one sees."""
    payload = {"rows": [{"n": 1}, [2]], "text": "a"}
    copy = copied(payload)
    copy["rows"][0]["n"] = copy["rows"][1][0] = 7
    copy["rows"].append(3)
    assert payload == {"rows": [{"n": 1}, [2]], "text": "a"}


def test_copies_are_bounded() -> None:
    """A list with too many items is shared, and so is what comes behind the first items of many lists."""
    long = [0] * MAX_COPIED_ITEMS
    copy = copied({"result": long, "name": "find", "arguments": [1]})
    assert copy["result"] is long
    assert copy["name"] == "find"
    rows = [[number] for number in range(MAX_COPIED_ITEMS // 2 + 1)]
    first, *_, last = copied([[0], *rows[:-2], [7]])
    assert (first, last) == ([0], [7])
    many = copied([list(range(1000)) for _ in range(50)])
    assert many == [list(range(1000)) for _ in range(50)]
    assert copied(rows)[0] is not rows[0]

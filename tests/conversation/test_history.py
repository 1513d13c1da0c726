"""The history: what was said, and which tools were called, in the order in which it happened."""

import math
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.history import MAX_SHOWN_ENTRIES, History, Spoken


@attrs.frozen
class Called:
    """A tool round that says its name."""

    name: str

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "tool", "content": self.name}]


def reported(history: History) -> list[object]:
    return [message["content"] for item in history.items() for message in item.messages()]


def test_tool_rounds_keep_their_positions() -> None:
    """An LLM gets tool rounds where they happened; callbacks and transcripts get entries alone."""
    history = History()
    history.add_tool_round(Called("first"))
    entry = history.add("user", "a", 1.0)
    history.add_tool_round(Called("x"))
    history.add_tool_round(Called("y"))
    history.add("assistant", "b", 2.0)
    history.add_tool_round(Called("z"))
    assert reported(history) == ["first", "a", "x", "y", "b", "z"]
    assert [entry["text"] for entry in history.shown()] == [entry["text"] for entry in history.whole()] == ["a", "b"]
    entry.fill("A", 3.0)
    assert reported(history) == ["first", "A", "x", "y", "b", "z"]


def test_cleared_entry_takes_nothing_with_it() -> None:
    """An entry that is cleared leaves the tool rounds before and after it in their places."""
    history = History()
    history.add("user", "a", 1.0)
    history.add_tool_round(Called("x"))
    entry = history.add("user", "b", 2.0)
    history.add_tool_round(Called("y"))
    entry.clear()
    history.add("assistant", "c", 3.0)
    assert reported(history) == ["a", "x", "y", "c"]


def test_reserved_position_is_skipped_until_filled() -> None:
    """Every reader skips a reserved utterance until its words are filled in, and then sees it."""
    history = History()
    history.add("assistant", "Hello.", 1.0)
    entry = history.reserve("user")
    assert (reported(history), len(history.shown()), history.last_user()) == (["Hello."], 1, "")
    assert history.before_last_user() == history.shown()
    history.add("assistant", "Yes.", 2.0)
    entry.fill("Is it?", 1.5)
    assert history.whole()[1] == {"role": "user", "text": "Is it?", "timestamp": 1.5}
    assert [entry["text"] for entry in history.before_last_user()] == ["Hello."]
    assert (reported(history), history.last_user()) == (["Hello.", "Is it?", "Yes."], "Is it?")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.just(0)),
        st.tuples(st.sampled_from(["fill", "clear"]), st.integers(0, 7)),
        st.tuples(st.sampled_from(["assistant", "user", "tool"]), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_history_is_a_list_with_late_fills(steps: list[tuple[str, int]]) -> None:
    """After any steps of reserving, filling and clearing, the history reads like a plain list of texts."""
    history, model, positions = History(), [], []  # type: ignore[var-annotated]
    for number, (step, which) in enumerate(steps):
        text = str(number)
        if step in ("fill", "clear"):
            if positions:
                at, spoken = positions[which % len(positions)]
                model[at] = ("user", text if step == "fill" else None)
                spoken.fill(text, 0.0) if step == "fill" else spoken.clear()
            continue
        if step == "tool":
            history.add_tool_round(Called(text))
        else:
            spoken: Spoken = history.reserve("user") if step == "reserve" else history.add(step, text, 0.0)
            positions += [(len(model), spoken)] if spoken.role == "user" else []
        model.append(("user", None) if step == "reserve" else (step, text))
    known = [(role, text) for role, text in model if text is not None]
    said = [(role, text) for role, text in known if role != "tool"]
    users = [at for at, (role, _) in enumerate(said) if role == "user"]
    assert [(message["role"], message["content"]) for item in history.items() for message in item.messages()] == known
    assert [(entry["role"], entry["text"]) for entry in history.whole()] == said
    assert history.last_user() == (said[users[-1]][1] if users else "")
    assert [entry["text"] for entry in history.before_last_user()] == [
        t for _, t in said[: users[-1] if users else None]
    ]


def test_callbacks_get_the_newest_entries() -> None:
    """A callback gets at most SHOWN entries, the newest; the whole is there for the final transcript."""
    history = History()
    for number in range(MAX_SHOWN_ENTRIES + 5):
        history.add("user", str(number), 0.0)
    assert [entry["text"] for entry in history.shown()] == [str(number) for number in range(5, MAX_SHOWN_ENTRIES + 5)]
    assert [entry["text"] for entry in history.before_last_user()] == [
        str(number) for number in range(4, MAX_SHOWN_ENTRIES + 4)
    ]
    assert len(history.whole()) == MAX_SHOWN_ENTRIES + 5


def test_entries_are_shown_by_sound() -> None:
    """What sounded first is shown first, whenever it was entered; a model gets it where it was entered."""
    history = History()
    history.add("assistant", "Good evening.", 3.0, began=1.0)
    entry = history.reserve("user", began=0.2)
    history.add("assistant", "Yes.", 5.0, began=4.0)
    assert [shown["text"] for shown in history.whole()] == ["Good evening.", "Yes."]
    entry.fill("Hello?", 3.5)
    assert [(shown["text"], shown["timestamp"]) for shown in history.whole()] == [
        ("Hello?", 3.0),
        ("Good evening.", 3.0),
        ("Yes.", 5.0),
    ]
    assert history.last_user() == "Hello?"
    assert [shown["text"] for shown in history.before_last_user()] == ["Good evening."]
    assert reported(history) == ["Good evening.", "Hello?", "Yes."]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]), max_size=12))
def test_order_of_sound_is_stable(begins: list[float]) -> None:
    """Between two entries of unknown begin, entries are sorted; equal ones keep their order; times never decrease."""
    history = History()
    for number, began in enumerate(begins):
        history.add("user" if number % 2 else "assistant", str(number), float(number), began=began)
    shown = [int(entry["text"]) for entry in history.whole()]
    stretches: list[list[int]] = [[]]
    for number, began in enumerate(begins):
        if began == math.inf:
            stretches += [[number], []]
        else:
            stretches[-1].append(number)
    assert shown == [number for stretch in stretches for number in sorted(stretch, key=lambda one: begins[one])]
    stamps = [entry["timestamp"] for entry in history.whole()]
    assert stamps == sorted(stamps)

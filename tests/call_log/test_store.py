"""What a log holds of calls, in each kind of database: written as they go, whole at the end, and gone when deleted."""

import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from patter_trio.abc import CallQuery, EventRecord
from patter_trio.call_log import reader
from patter_trio.call_log.entries import RecordingMade
from patter_trio.call_log.migrations import migrate
from patter_trio.call_log.rows import MAX_DATA_CHARACTERS
from patter_trio.call_log.schema import CALLS
from patter_trio.call_log.store import delete_calls
from patter_trio.errors import CallLogError, ConfigurationError
from tests.kit.call_logs import EPOCH, Events, OpenLog, metrics

TABLES = ("patter_calls", "patter_call_details", "patter_events", "patter_turns", "patter_words")


def found(log: OpenLog, **query: Any) -> list[str]:
    with log.database.reading() as connection:
        return [call.call_id for call in reader.find(connection, log.database, CallQuery(**query)).calls]


def whole(log: OpenLog, call_id: str) -> dict[str, Any]:
    with log.database.reading() as connection:
        call = reader.get(connection, call_id)
    assert call is not None
    return call


def events_of(log: OpenLog, call_id: str) -> list[EventRecord]:
    with log.database.reading() as connection:
        return reader.events(connection, call_id)


def counts(log: OpenLog) -> list[int]:
    with log.database.reading() as connection:
        return [int(connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one()) for name in TABLES]  # noqa: S608 (names above)


def test_call_that_goes_on_can_be_read(log: OpenLog) -> None:
    """What has been written of a call without an end is there: its facts, its words so far, its tools and costs."""
    e = log.events
    tool = {
        "name": "find",
        "arguments": {},
        "result": "3 slots",
        "duration": 0.4,
        "timestamp_ms": 1,
        "tool_call_id": "t",
    }
    given = [
        e.started("CA1", custom_params={"plan": "gold"}),
        e.said("CA1", "Do you open on Sunday?"),
        e.event("CA1", "tool_call_completed", **tool),
        e.said("CA1", "Yes.", "assistant"),
        e.measured("CA1", 1, 640.0, cost=0.02),
    ]
    assert log.store.write(given) == 0
    call = whole(log, "CA1")
    assert call["outcome"] == ""
    assert call["ended_at"] is None
    assert call["first_words"] == "Do you open on Sunday?"
    assert call["custom_params"] == {"plan": "gold"}
    assert [(entry["role"], entry["text"]) for entry in call["transcript"]] == [
        ("user", "Do you open on Sunday?"),
        ("assistant", "Yes."),
    ]
    assert [entry["name"] for entry in call["tool_calls"]] == ["find"]
    assert (call["turns"], call["cost_usd"]) == (1, 0.02)
    assert call["duration_s"] == given[-1]["at_ms"] / 1000
    assert events_of(log, "CA1") == given


def test_end_of_a_call_completes_it(log: OpenLog) -> None:
    """Outcome, duration, cost, median, transcript, metrics and tools are those of on_call_end."""
    e = log.events
    transcript = [
        {"role": "assistant", "text": "Hello", "timestamp": 1.0},
        {"role": "user", "text": "Hi", "timestamp": 2.0},
    ]
    log.store.write([e.started("CA1"), e.said("CA1", "Hy")])
    log.store.write([e.ended("CA1", 9.5, transcript=transcript, metrics=metrics(9.5), tool_calls=[{"name": "find"}])])
    call = whole(log, "CA1")
    assert call["transcript"] == transcript
    assert call["metrics"] == metrics(9.5)
    assert call["tool_calls"] == [{"name": "find"}]
    assert (call["outcome"], call["duration_s"], call["cost_usd"]) == ("caller_hung_up", 9.5, 0.25)
    assert (call["answer_p50_ms"], call["ended_at"], call["first_words"]) == (600.0, EPOCH + 9.5, "Hi")
    # The transcript of the end is what is searched.
    assert (found(log, text="hy"), found(log, text="hello hi")) == ([], ["CA1"])


def test_call_that_never_connected_is_logged(log: OpenLog) -> None:
    """A caller who heard busy has a line, with the reason."""
    log.store.write([log.events.ended("CA1", outcome="busy", error="the server is full")])
    call = whole(log, "CA1")
    assert (call["outcome"], call["error"], call["duration_s"]) == ("busy", "the server is full", 0.0)


def test_corrected_words_take_the_place_of_the_old(log: OpenLog) -> None:
    """A transcript that revises replaces the caller's last words, in the transcript and in the search."""
    e = log.events
    said = [e.said("CA1", "at fife"), e.said("CA1", "Good.", "assistant"), e.said("CA1", "at five", revises=True)]
    log.store.write([e.started("CA1"), *said])
    assert [entry["text"] for entry in whole(log, "CA1")["transcript"]] == ["at five", "Good."]
    assert (found(log, text="fife"), found(log, text="five")) == ([], ["CA1"])
    assert whole(log, "CA1")["first_words"] == "at five"


def test_cost_after_the_end_replaces_the_list_price(log: OpenLog) -> None:
    """What the carrier charges, minutes later, corrects the total, also if the process was started anew meanwhile."""
    e = log.events
    log.store.write([e.started("CA1"), e.ended("CA1", metrics=metrics(cost=0.25, telephony=0.05))])
    log.store.write([e.event("CA1", "cost_reported", cost_usd=0.07)])
    assert whole(log, "CA1")["cost_usd"] == pytest.approx(0.27)
    later = OpenLog(log.url)
    # Numbered by another process, which began at 1 again.
    later.store.write([later.events.event("CA1", "cost_reported", cost_usd=0.09)])
    later.store.close()
    call = whole(log, "CA1")
    assert call["cost_usd"] == pytest.approx(0.29)
    assert call["metrics"]["cost"]["telephony"] == 0.09
    assert [event["type"] for event in events_of(log, "CA1")][-2:] == ["cost_reported", "cost_reported"]


def test_id_that_comes_again_is_another_call(log: OpenLog) -> None:
    """A second call of an id, as simulated calls have it, does not overwrite the first."""
    e = log.events
    log.store.write([e.started("CA1"), e.said("CA1", "one"), e.ended("CA1")])
    log.store.write([e.started("CA1"), e.said("CA1", "two"), e.ended("CA1")])
    other = OpenLog(log.url)
    other.store.write([other.events.started("CA1"), other.events.said("CA1", "three")])
    other.store.close()
    assert found(log) == ["CA1-3", "CA1-2", "CA1"]
    assert found(log, text="two") == ["CA1-2"]
    assert {event["call_id"] for event in events_of(log, "CA1-3")} == {"CA1-3"}


@pytest.mark.parametrize(
    "odd", ["\0", "\ud800", "𝄞 'quoted' \\ \"", "x" * 300_000], ids=["NUL", "surrogate", "signs", "long"]
)
def test_odd_texts_are_stored(log: OpenLog, odd: str) -> None:
    """Characters that a database refuses, and texts of any length, lose neither the call nor other events."""
    e = log.events
    facts = {"caller": odd, "custom_params": {odd: odd}}
    given = [e.started("CA1", **facts), e.said("CA1", odd), e.ended("CA1", error=odd)]
    assert log.store.write(given) == 0
    assert len(events_of(log, "CA1")) == 3
    if len(odd) < MAX_DATA_CHARACTERS:
        assert events_of(log, "CA1")[1]["data"]["text"] == odd
    else:
        assert events_of(log, "CA1")[1]["data"]["too_long"] > MAX_DATA_CHARACTERS


def test_refused_entry_costs_no_other(log: OpenLog) -> None:
    """Of a batch with one entry that the database refuses, all others are written."""
    e = log.events
    begin = e.started("CA1")
    assert log.store.write([begin, e.said("CA1", "one")]) == 0
    assert log.store.write([e.said("CA1", "two"), begin, e.said("CA1", "three")]) == 1
    assert [event["data"].get("text") for event in events_of(log, "CA1")] == [None, "one", "two", "three"]


def test_call_deleted_while_live_stays_deleted(log: OpenLog) -> None:
    """What comes of a call after its deletion is not written, and does not count as dropped."""
    e = log.events
    log.store.write([e.started("CA1"), e.said("CA1", "one")])
    assert log.store.delete_before(EPOCH + 100) == 1
    assert log.store.write([e.said("CA1", "two"), e.started("CA2"), e.ended("CA1")]) == 0
    assert found(log) == ["CA2"]


@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "not noticed"])
def test_recording_of_deleted_call_is_deleted(log: OpenLog, tmp_path: Path, is_noticed: bool) -> None:
    """A recording that is reported after its call was deleted is not left without a row; others stay."""
    e = log.events
    deleted, other = tmp_path / "CA1.wav", tmp_path / "CA2.wav"
    log.store.write([e.started("CA1"), e.started("CA2", 1000.0)])
    assert log.store.delete_before(EPOCH + 100) == 1
    if is_noticed:
        log.store.write([e.said("CA1", "one")])
    for file in (deleted, other):
        file.write_bytes(b"RIFF")
    log.store.write([RecordingMade("CA1", str(deleted)), RecordingMade("CA2", str(other))])
    assert (deleted.exists(), other.exists()) == (False, True)
    assert whole(log, "CA2")["has_recording"]


def test_deletion_takes_all_of_a_call(log: OpenLog, tmp_path: Path) -> None:
    """Nothing of a call is left in any table or in the search, nor its recording; other calls stay."""
    e = log.events
    recording = tmp_path / "CA1.wav"
    recording.write_bytes(b"RIFF")
    for call_id, at in (("CA1", 0.0), ("CA2", 1000.0)):
        log.store.write(
            [e.started(call_id, at), e.said(call_id, "secret"), e.measured(call_id, 1, 5.0), e.ended(call_id, at)]
        )
    log.store.write([RecordingMade("CA1", str(recording))])
    assert whole(log, "CA1")["has_recording"]
    assert log.store.delete_before(EPOCH + 500) == 1
    assert found(log) == found(log, text="secret") == ["CA2"]
    assert not recording.exists()
    log.store.delete_before(EPOCH + 5000)
    assert counts(log) == [0, 0, 0, 0, 0]


def test_killed_deletion_leaves_no_lost_recording(log: OpenLog, tmp_path: Path) -> None:
    """A process that ends before the commit leaves rows without recordings, which the next deletion takes."""
    recording = tmp_path / "CA1.wav"
    recording.write_bytes(b"RIFF")
    log.store.write([log.events.started("CA1"), RecordingMade("CA1", str(recording))])
    engine = log.database.writing_engine()
    there: list[bool] = []

    def killed(_: object) -> None:
        there.append(recording.exists())
        raise SystemExit

    with engine.connect() as connection:
        event.listen(engine, "commit", killed)
        with pytest.raises(SystemExit):
            delete_calls(connection, CALLS.c.started_at < EPOCH + 500)
    assert there == [False]
    assert found(log) == ["CA1"]
    assert log.store.delete_before(EPOCH + 500) == 1
    assert counts(log) == [0, 0, 0, 0, 0]


def test_many_calls_are_deleted(log: OpenLog) -> None:
    """More calls than one transaction deletes are deleted, each hundred for itself."""
    log.store.write([log.events.ended(f"CA{number}") for number in range(205)])
    assert [log.store.delete_before(EPOCH + 500) for _ in range(4)] == [100, 100, 5, 0]
    assert counts(log)[0] == 0


def test_deleted_words_are_in_no_file(tmp_path: Path) -> None:
    """After a deletion, neither the database nor its write-ahead log has the words, also those of the index."""
    log, e = OpenLog(str(tmp_path / "patter.db")), Events()
    for number in range(50):
        log.store.write(
            [e.started(f"CA{number}"), e.said(f"CA{number}", "xylophonist wanted" if number == 3 else "no")]
        )
    # Without its first letters, which the index may share with another term.
    word = b"lophonist"

    def places() -> set[str]:
        return {file.name for file in tmp_path.glob("patter.db*") if word in file.read_bytes()}

    assert places()
    with log.database.writing_engine().connect() as connection:
        assert delete_calls(connection, CALLS.c.call_id == "CA3") == 1
    assert places()
    while log.store.erase():
        pass
    assert places() == set()
    assert found(log, text="no")[-1] == "CA0"
    log.store.close()


def test_newer_log_is_refused_and_not_changed(log: OpenLog) -> None:
    """A log of a later version is neither written nor read, and the error says what to do."""
    log.store.write([log.events.started("CA1")])
    log.store.close()
    engine = log.database.writing_engine()
    with engine.connect() as connection, connection.begin():
        connection.execute(text("UPDATE patter_version SET version = 99"))
    with pytest.raises(ConfigurationError, match=r"version 99.*update patter_trio"):
        log.store.write([log.events.said("CA1", "more")])
    with pytest.raises(CallLogError, match="version 99"):
        found(log)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM patter_events")).scalar_one() == 1
        connection.rollback()
        with connection.begin():
            connection.execute(text("UPDATE patter_version SET version = 1"))
    assert found(log) == ["CA1"]


def test_older_log_is_led_up_step_by_step(log: OpenLog) -> None:
    """Each step runs once, in order, in one transaction; a step that fails leaves the version as it was."""
    steps: list[int] = []

    def fail(*_: object) -> None:
        steps.append(4)
        raise CallLogError("the step failed")

    two = {2: lambda *_: steps.append(2), 3: lambda *_: steps.append(3), 4: fail}
    engine = log.database.writing_engine()
    for version in (3, 3, 4):
        with engine.connect() as connection:
            try:
                with connection.begin():
                    migrate(connection, log.database.dialect, version=version, steps=two)
            except CallLogError:
                pass
    assert steps == [2, 3, 4]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version FROM patter_version")).scalar_one() == 3


def test_version_that_is_lost_is_an_error(log: OpenLog) -> None:
    """A table of versions without a version is refused rather than guessed."""
    engine = log.database.writing_engine()
    with engine.connect() as connection, connection.begin():
        connection.execute(text("DELETE FROM patter_version"))
    with pytest.raises(ConfigurationError, match="has lost its version"):
        OpenLog(log.url)


def test_log_without_calls_says_so(tmp_path: Path) -> None:
    """Who reads a place without a log learns it, and no file is made."""
    log = OpenLog(str(tmp_path / "a.db"))
    log.store.close()
    (tmp_path / "a.db").unlink()
    with pytest.raises(CallLogError, match="does not exist"):
        found(log)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Others on the machine can read neither the database nor its write-ahead log."""
    log = OpenLog(str(tmp_path / "new" / "patter.db"))
    log.store.write([log.events.started("CA1")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    log.store.close()
    assert set(modes) == {"patter.db", "patter.db-wal", "patter.db-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_corrupt_database_is_an_error_of_ours(tmp_path: Path) -> None:
    """A file that is not a database is neither written nor replaced."""
    (tmp_path / "patter.db").write_bytes(b"not a database, but a text of somebody's" * 100)
    before = (tmp_path / "patter.db").read_bytes()
    with pytest.raises(CallLogError, match="not a database"):
        OpenLog(str(tmp_path))
    assert (tmp_path / "patter.db").read_bytes() == before


def test_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    """After the file was moved, what follows goes into a new one, in which the live call has its facts."""
    log = OpenLog(str(tmp_path / "patter.db"))
    e = log.events
    log.store.write([e.started("CA1", caller="+15550100007"), e.said("CA1", "one")])
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / f"old-{file.name}")
    assert log.store.write([e.said("CA1", "two"), e.ended("CA1")]) == 0
    log.store.close()
    assert whole(log, "CA1")["caller"] == "+15550100007"
    assert [event["data"].get("text") for event in events_of(log, "CA1")] == ["two", None]


def test_read_only_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    """A place where no folder can be made is reported with its reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CallLogError, match=r"call log .*file/patter.db: "):
        OpenLog(str(tmp_path / "file" / "patter.db"))

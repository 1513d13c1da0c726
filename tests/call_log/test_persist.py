"""Whole calls with ``persist=``: what is read back is what the callbacks got, whatever the database does meanwhile."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from patter_trio import CallLog, CallLogError, ConfigurationError, MissingExtraError, Patter, tool
from patter_trio.abc import CallArchive, CallQuery
from patter_trio.call_log.archive import LoggedCalls
from patter_trio.call_log.entries import RecordingMade
from patter_trio.call_log.options import checked_log
from patter_trio.dashboard.recent_calls import RecentCalls
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.live_calls import PhoneLiveCalls
from patter_trio.server.phone_metrics import PhoneMetrics
from patter_trio.testing import ScriptedLLM, tool_call
from tests.kit.call import agent_of
from tests.kit.call_logs import OpenLog
from tests.kit.programs import environment


@tool
async def slots(day: str) -> dict[str, Any]:
    """Find free slots."""
    return {"day": day, "free": ["10:00"]}


def archive(phone: Patter) -> CallArchive:
    assert phone.call_log is not None
    return phone.call_log


async def one_call(call_simulator: CallSimulator, phone: Patter, **options: Any) -> dict[str, Any]:
    """Hold a call with a tool and two turns; return the payload of its on_call_end."""
    ends: list[dict[str, Any]] = []
    llm = ScriptedLLM([[tool_call("slots", day="Sunday")], "At ten.", "Bye."])
    agent = agent_of(llm=llm, tools=[slots], first_message="Hello.")
    async with call_simulator(agent, phone=phone, on_call_end=ends.append, **options) as caller:
        await caller.hears()
        await caller.speaks("Is Sunday free?", seconds=1.0)
        await caller.hears()
        await caller.presses("7")
        await caller.speaks("Thank you, goodbye", seconds=1.0)
        await caller.hears()
    return ends[0]


async def test_turns_are_counted_in_one_way(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """Of one call, the live view, the log, the memory of the dashboard and /metrics count the same turns."""
    phone, memory = Patter(persist=tmp_path), RecentCalls()
    metrics, live = PhoneMetrics(phone._live, [], phone._feed), PhoneLiveCalls(phone._live, phone._feed)
    with phone._recorder.taken_by([metrics, memory]):
        async with call_simulator(agent_of("Yes.", "Bye.", first_message="Hello."), phone=phone) as caller:
            await caller.hears()
            [call] = live.calls()
            assert call.turns == 0
            for words in ("Is Sunday free?", "Thank you"):
                await caller.speaks(words, seconds=1.0)
                await caller.hears()
            [call] = live.calls()
            await caller.waits(1.0)
    [logged] = (await archive(phone).find(CallQuery())).calls
    [remembered] = (await memory.find(CallQuery())).calls
    counted = metrics.registry.get_sample_value("patter_turns_total", {"result": "completed"})
    assert (call.turns, logged.turns, remembered.turns, counted) == (2, 2, 2, 2)


async def test_call_is_read_back_whole(log_url: str, call_simulator: CallSimulator) -> None:
    """The log has the facts, transcript, metrics, tools, keys and outcome that on_call_end had, and each event."""
    phone = Patter(persist=log_url)
    end = await one_call(call_simulator, phone, custom_params={"plan": "gold"})
    (line,) = (await archive(phone).find(CallQuery())).calls
    call = await archive(phone).get(line.call_id)
    assert call is not None
    metrics = end["metrics"]
    assert call["transcript"] == end["transcript"]
    assert call["metrics"] == json.loads(json.dumps(metrics.to_dict()))
    assert call["tool_calls"] == json.loads(json.dumps(end["tool_calls"]))
    assert (line.caller, line.callee, line.direction) == (end["caller"], end["callee"], "inbound")
    assert (line.outcome, line.duration_s) == (end["outcome"], metrics.duration_seconds)
    assert (line.cost_usd, line.answer_p50_ms) == (metrics.cost.total, metrics.latency_p50.total_ms)
    assert (line.turns, line.first_words) == (2, "Is Sunday free?")
    assert call["custom_params"] == {"plan": "gold"}
    events = await archive(phone).events(line.call_id)
    types = [event["type"] for event in events]
    assert types[0] == "call_started"
    assert types[-1] == "call_ended"
    assert [event["data"]["digit"] for event in events if event["type"] == "dtmf_received"] == ["7"]
    assert {"user_speech_eos", "agent_speech_ended", "tool_call_completed", "turn_ended"} <= set(types)
    assert not {"llm_chunk", "tts_chunk"} & set(types)
    for words in ("sunday", "at ten", "goodb", "SUNDAY bye"):
        assert len((await archive(phone).find(CallQuery(text=words))).calls) == 1, words
    assert not (await archive(phone).find(CallQuery(text="monday"))).calls


async def test_log_changes_no_instant_of_a_call(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """With and without a log, the same call has the same events at the same instants."""
    seen = []
    for phone in (Patter(), Patter(persist=tmp_path)):
        async with call_simulator(agent_of("Yes, we do."), phone=phone) as caller:
            await caller.speaks("Hi", seconds=0.5)
            await caller.hears()
        seen.append([(round(at, 6), name) for at, name, _ in caller.events])
    assert seen[0] == seen[1]


async def test_recording_is_noted_and_deleted_with_its_call(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """The log has the file of the recording, in the timeline, too; deleting the call deletes the file."""
    phone = Patter(persist=tmp_path / "log")
    await one_call(call_simulator, phone, record_to=tmp_path / "wav")
    (line,) = (await archive(phone).find(CallQuery())).calls
    path = await archive(phone).recording(line.call_id)
    assert line.has_recording
    assert path == next((tmp_path / "wav").iterdir())
    timeline = await archive(phone).timeline(line.call_id)
    assert timeline is not None
    assert timeline["peaks"]["caller"]
    assert await archive(phone).delete(line.call_id)
    assert not path.exists()
    assert not await archive(phone).delete(line.call_id)
    assert await archive(phone).get(line.call_id) is None
    assert await archive(phone).timeline(line.call_id) is None
    assert await archive(phone).recording(line.call_id) is None


async def test_live_call_has_no_peaks(tmp_path: Path) -> None:
    """The recording of a call that goes on, of hundreds of megabytes perhaps, is read at its end alone."""
    log = OpenLog(str(tmp_path / "patter.db"))
    sound = tmp_path / "CA1.wav"
    sound.write_bytes(bytes(4000))
    calls = LoggedCalls(log.database)
    seen = []
    log.store.write([log.events.started("CA1"), RecordingMade("CA1", str(sound))])
    for _ in range(2):
        timeline = await calls.timeline("CA1")
        assert timeline is not None
        seen.append(bool(timeline["peaks"] and timeline["peaks"]["caller"]))
        log.store.write([log.events.ended("CA1")])
    log.store.close()
    assert seen == [False, True]


async def test_words_and_numbers_can_be_left_out(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """Neither the database nor its write-ahead log holds a word or a number that is not to be kept."""
    phone = Patter(persist=CallLog(tmp_path, words=False, numbers=False))
    end = await one_call(call_simulator, phone)
    stored = b"".join([await trio.Path(file).read_bytes() for file in os.scandir(tmp_path)])
    for secret in ("Sunday", "sunday", "At ten", end["caller"], end["callee"], "10:00"):
        assert secret.encode() not in stored
    (line,) = (await archive(phone).find(CallQuery())).calls
    assert (line.turns, line.outcome) == (2, end["outcome"])


async def test_redacted_words_are_found_as_redacted(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """redact= sees each text before it is kept, in transcripts and in the search."""
    phone = Patter(persist=CallLog(tmp_path, redact=lambda text: text.replace("Sunday", "[day]")))
    await one_call(call_simulator, phone)
    assert b"Sunday" not in (tmp_path / "patter.db").read_bytes()
    (line,) = (await archive(phone).find(CallQuery(text="is day free"))).calls
    assert line.first_words == "Is [day] free?"


async def test_corrupt_log_costs_no_call(
    tmp_path: Path, call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """With a file that is not a database, calls go on, there is one warning, and the file stays as it is."""
    (tmp_path / "patter.db").write_bytes(b"somebody's text " * 1000)
    phone = Patter(persist=tmp_path)
    end = await one_call(call_simulator, phone)
    assert end["outcome"] == "caller_hung_up"
    assert (tmp_path / "patter.db").read_bytes() == b"somebody's text " * 1000
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in warnings if "not a database" in line]) == 1
    with pytest.raises(CallLogError, match="not a database"):
        await archive(phone).find(CallQuery())


async def test_calls_on_two_servers_are_logged_once(tmp_path: Path, call_simulator: CallSimulator) -> None:
    """Two servers of one phone write into one log, each its own calls."""
    phone = Patter(persist=tmp_path)
    async with (
        call_simulator(agent_of("Yes."), phone=phone) as one,
        call_simulator(agent_of("No."), phone=phone) as other,
    ):
        await one.speaks("Hi", seconds=0.5)
        await other.speaks("Ho", seconds=0.5)
        await one.hears()
        await other.hears()
    calls = (await archive(phone).find(CallQuery())).calls
    assert sorted(call.first_words for call in calls) == ["Hi", "Ho"]


KILLED = """
import os, signal
import trio.testing
from patter_trio import Patter
from patter_trio.testing.simulation.simulator import simulate_call
from tests.kit.call import agent_of

said = []

def heard(event):
    said.append(event["text"])
    # The fifth utterance: four are over, each more than a batch's time ago.
    if len(said) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    phone = Patter(persist=PLACE)
    async with simulate_call(agent_of("Yes.", "No.", "Sure."), phone, on_transcript=heard) as caller:
        for text in ("first", "second", "third"):
            await caller.speaks(text, seconds=1.0)
            await caller.hears()

trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_killed_process_loses_the_last_utterance_at_most(log_url: str) -> None:
    """After kill -9 in mid-call, the log has the call with all that was said but the last, and its events so far."""
    result = await trio.run_process(
        [sys.executable, "-c", KILLED.replace("PLACE", repr(log_url))],
        check=False,
        env={**environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_stderr=True,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    log = archive(Patter(persist=log_url))
    (line,) = (await log.find(CallQuery())).calls
    call = await log.get(line.call_id)
    assert call is not None
    assert [entry["text"] for entry in call["transcript"]][:4] == ["first", "Yes.", "second", "No."]
    assert (line.outcome, line.first_words) == ("", "first")
    # Up to the last words, not 0.
    assert line.duration_s > 0
    assert (await log.find(CallQuery(text="second"))).calls == (line,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "persist must be True, a path, a URL or a CallLog"),
        (7, "persist must be True, a path, a URL or a CallLog"),
        ("mysql://host/name", "must begin with postgresql:// or sqlite://"),
        ("oracle://user:secret@host", "must begin with postgresql:// or sqlite://"),
    ],
)
def test_wrong_place_is_refused_without_its_secrets(wrong: Any, message: str) -> None:
    """A place that no log can have is refused when the phone is made, and a password is not shown."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Patter(persist=wrong)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "words must be True or False"),
        ({"redact": "x"}, "redact must be a function"),
        ({"keep_days": 0}, "keep_days must be a number of days above 0"),
        ({"keep_days": True}, "keep_days must be a number of days above 0"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    """An option of a wrong type or value is refused when it is given."""
    with pytest.raises(ConfigurationError, match=message):
        CallLog(**options)


def test_places_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """True is PATTER_LOG_DIR or ./calls; a folder gets patter.db; a URL gets our driver; a repr has no password."""
    monkeypatch.delenv("PATTER_LOG_DIR", raising=False)
    assert CallLog().url() == "sqlite:///calls/patter.db"
    monkeypatch.setenv("PATTER_LOG_DIR", str(tmp_path))
    assert CallLog().url() == f"sqlite:///{tmp_path}/patter.db"
    assert CallLog("a/b.sqlite3").url() == "sqlite:///a/b.sqlite3"
    assert CallLog("a.b").url() == "sqlite:///a.b/patter.db"
    assert CallLog("postgres://u:pw@h/n").url() == "postgresql+psycopg://u:pw@h/n"
    assert "pw" not in repr(CallLog("postgresql://u:pw@h/n"))
    assert checked_log(False) is None
    assert Patter().call_log is None


@pytest.mark.parametrize(
    ("missing", "place", "extra"),
    [("sqlalchemy", "a.db", "log"), ("psycopg", "postgresql://host/name", "postgresql")],
)
def test_missing_package_is_named_with_its_extra(
    missing: str, place: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the packages, the phone is refused with the command that installs them."""
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(MissingExtraError, match=rf"pip install 'patter-trio\[{extra}\]'"):
        Patter(persist=place)

"""STT sessions that fail or fall silent in a call: another one hears the audio again, and the caller is answered."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Fallback, transfer_call
from patter_trio.abc import SpeechToText, SpeechToTextSession
from patter_trio.audio.formats import AudioFormat, Encoding
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedSTT
from tests.kit.call import agent_of

pytestmark = [pytest.mark.pipeline("an engine hears by itself"), pytest.mark.all_carriers]

APOLOGY = "Sorry, something went wrong."


@attrs.frozen
class Sequel(SpeechToText):
    """An STT whose sessions follow one script each; the last script is that of all further sessions."""

    scripts: Sequence[ScriptedSTT]
    opened: list[float] = attrs.field(factory=list)
    provider: str = "sequel"
    model: str = ""

    @property
    def gives_interims(self) -> bool:
        return self.scripts[0].gives_interims

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        script = self.scripts[min(len(self.opened), len(self.scripts) - 1)]
        self.opened.append(trio.current_time())
        async with script.open(language=language) as session:
            yield session


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    loggers = ("patter_trio.stt", "patter_trio.fallback")
    return [
        record.getMessage().partition(": ")[2] if record.name == "patter_trio.stt" else record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and record.name in loggers
    ]


LOST = "ScriptedSTT has failed after 3 s, as scripted"
SILENT = "primary scripted sent no result for 3 s of voice"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param({"fail_at": 3.0}, LOST, id="lost"),
        pytest.param({"silent_after": 2.9, "gives_interims": True, "interim_every": 0.3}, SILENT, id="silent"),
        pytest.param({"silent_after": 2.9}, SILENT, id="silent-without-interims"),
    ],
)
async def test_fallback_changes_the_stt_in_call(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, broken: dict[str, Any], reason: str
) -> None:
    """When the STT in use fails or is silent in mid-sentence, the next one gets the audio; the caller is answered."""
    primary = ScriptedSTT(provider="primary", **broken)
    agent = agent_of("Table for two.", "Good bye.", stt=Fallback(primary, ScriptedSTT()))
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        await caller.speaks("A table for two on Friday evening at the window", seconds=5.0)
        first = await caller.hears(within=15.0)
        await caller.speaks("Thank you", seconds=0.8)
        second = await caller.hears()
    assert (first.text, second.text) == ("Table for two.", "Good bye.")
    users = [entry["text"] for entry in caller.transcript if entry["role"] == "user"]
    assert users == ["A table for two on Friday evening at the window", "Thank you"]
    assert warnings(caplog) == [f"primary scripted failed: {reason}"]


async def test_fallback_formats_may_differ(call_simulator: CallSimulator) -> None:
    """The next STT gets the kept audio in its own format."""
    wide, wider = (AudioFormat(Encoding.PCM16, rate) for rate in (16_000, 24_000))
    agent = agent_of("Yes.", stt=Fallback(ScriptedSTT(fail_at=3.0, accepts=wide), ScriptedSTT(accepts=wider)))
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        await caller.speaks("A table for two on Friday evening", seconds=3.0)
        assert (await caller.hears(within=15.0)).text == "Yes."
    assert caller.transcript[0]["text"] == "A table for two on Friday evening"


async def test_silent_stt_is_noticed_within_voice(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An STT that gives interims and stops is replaced after 3 s of voice; no word is lost, and one line is logged."""
    stt = Sequel([ScriptedSTT(silent=True, gives_interims=True), ScriptedSTT(interim_every=0.3, gives_interims=True)])
    async with call_simulator(agent_of("Yes.", stt=stt)) as caller:
        await caller.at(1.0)
        zero = trio.current_time() - 1.0
        await caller.speaks("Is there a table for two on Friday evening", seconds=5.0)
        reply = await caller.hears()
    [onset] = caller.times("user_speech_started")
    assert stt.opened[1] - zero - onset == pytest.approx(3.0, abs=0.05)
    assert reply.text == "Yes."
    assert caller.transcript[0]["text"] == "Is there a table for two on Friday evening"
    assert warnings(caplog) == ["sequel is gone, trying again: sequel sent no result for 3 s of voice"]


async def test_unanswered_voice_is_asked_about(call_simulator: CallSimulator) -> None:
    """An STT without interims owes an answer 1 s after a voice; 3 s later another session answers the caller."""
    stt = Sequel([ScriptedSTT(silent=True), ScriptedSTT()])
    async with call_simulator(agent_of("Yes.", stt=stt)) as caller:
        await caller.at(1.0)
        zero = trio.current_time() - 1.0
        await caller.speaks("A table", seconds=1.0)
        reply = await caller.hears(within=15.0)
    [ended] = caller.times("user_speech_ended")
    assert stt.opened[1] - zero - ended == pytest.approx(4.0, abs=0.05)
    assert (reply.text, caller.transcript[0]["text"]) == ("Yes.", "A table")


@pytest.mark.parametrize("gives_interims", [pytest.param(True, id="interims"), pytest.param(False, id="finals")])
async def test_stt_that_stays_silent_ends_the_call(call_simulator: CallSimulator, *, gives_interims: bool) -> None:
    """The call ends with the apology only when sessions have been silent for 10 s of tries."""
    stt = Sequel([ScriptedSTT(silent=True, gives_interims=gives_interims)])
    async with call_simulator(agent_of("Yes.", stt=stt, error_message=APOLOGY)) as caller:
        await caller.at(1.0)
        zero = trio.current_time() - 1.0
        await caller.speaks("Is there a table for two on Friday", seconds=4.0)
        apology = await caller.hears(within=40.0)
    assert apology.text == APOLOGY
    assert apology.started >= stt.opened[1] - zero + 10.0
    assert 4 <= len(stt.opened) <= 6
    assert caller.outcome == "failed"


async def test_silent_stt_transfers_on_failure(call_simulator: CallSimulator) -> None:
    """With ``on_failure`` the caller of an STT that stays silent is transferred behind the apology."""
    stt = ScriptedSTT(silent=True)
    agent = agent_of("Yes.", stt=stt, error_message=APOLOGY, on_failure=transfer_call({"desk": "+15550100003"}))
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Is there a table", seconds=1.5)
        apology = await caller.hears(within=40.0)
        await caller.waits(1.0)
    assert (apology.text, caller.outcome) == (APOLOGY, "transferred")


@pytest.mark.costly
async def test_quiet_caller_makes_no_stt_silent(call_simulator: CallSimulator) -> None:
    """A caller who says nothing for a minute, and coughs, keeps the session."""
    stt = Sequel([ScriptedSTT(gives_interims=False)])
    async with call_simulator(agent_of("Yes.", stt=stt)) as caller:
        await caller.coughs(0.3)
        await caller.waits(60.0)
        await caller.speaks("Hello?", seconds=0.6)
        assert (await caller.hears()).text == "Yes."
    assert len(stt.opened) == 1

"""Warm transfers: a person is called, briefed and asked, the caller is on hold meanwhile, and then both talk."""

from typing import Any

import pytest
import trio

from patter_trio import CallEnded, ProviderError, TransferError, WarmTransfer
from patter_trio.audio.formats import RATE_HZ
from patter_trio.testing.scripted_providers.band_limited import sounds_in
from patter_trio.testing.simulation.carriers import CARRIERS
from patter_trio.testing.simulation.destinations import BUSY, FAILED, NOBODY, Person, Voicemail
from patter_trio.testing.simulation.outbound import open_phone_network
from tests.kit.call import SORRY, At, FaultySTT, agent_of
from tests.kit.warm import (
    ANSWER_S,
    ASKED_S,
    BRIEFING,
    DESK,
    PROMPT,
    RINGS_S,
    WARM,
    declines,
    hold_sound,
    leaves,
    on_hold,
    says_nothing,
    takes_it,
)


# Taken ----------------------------------------------------------------------------------------------------------------
async def test_both_hear_each_other(autojump_clock: object) -> None:
    """The caller hears the hold sound, until the person takes the call; then each hears the other, frame by frame."""
    ends: list[dict[str, Any]] = []
    async with on_hold(agent_of(), takes_it, on_call_end=ends.append) as (network, caller, outcome):
        await caller.at(ASKED_S + 2.0)
        await caller.speaks("I am Ann.", seconds=1.0)
        await caller.carrier.over.wait()
    [line] = network.calls
    assert line.caller is not None
    assert (outcome.error, outcome.at) == (None, pytest.approx(ASKED_S))
    assert hold_sound(caller) == (pytest.approx(1.0), pytest.approx(ASKED_S))
    # Nothing of the tone after that instant, and the person's first frame with the next one of the carrier.
    _, bridged = caller.carrier.played()
    assert bridged.at == pytest.approx(ASKED_S + 0.02)
    assert caller.heard_words == "This is the desk."
    assert line.caller.heard_words == f"{BRIEFING}{PROMPT}I am Ann."
    # What a person says at 1.0 after the key is heard 20 ms later, when its first frame is complete.
    assert caller.carrier.ended_at == pytest.approx(ASKED_S + 4.5)
    assert [(end["direction"], end["outcome"]) for end in ends] == [
        ("outbound", "transferred"),
        ("inbound", "transferred"),
    ]
    # The transcripts are those of the agent's part: nobody listens to the two.
    assert [entry["text"] for entry in ends[0]["transcript"]] == [f"{BRIEFING} {PROMPT}"]
    assert ends[1]["transcript"] == []


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_each_carrier_connects_and_ends(carrier: str, autojump_clock: object) -> None:
    """Over each carrier both hear each other, and the person's hang-up ends the caller's call at the carrier, too."""
    async with on_hold(agent_of(), takes_it, carrier=carrier) as (network, caller, outcome):
        await caller.at(ASKED_S + 2.0)
        await caller.speaks("I am Ann.", seconds=1.0)
        await caller.carrier.over.wait()
    [line] = network.calls
    assert line.caller is not None
    assert outcome.error is None
    assert hold_sound(caller) == (pytest.approx(1.0), pytest.approx(outcome.at))
    assert caller.heard_words == "This is the desk."
    assert line.caller.heard_words.endswith("I am Ann.")
    assert (caller.outcome, line.caller.outcome) == ("transferred", "transferred")


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_each_carrier_takes_back(carrier: str, autojump_clock: object) -> None:
    """Over each carrier a busy line takes the caller back, and a caller who hangs up stops the ringing."""
    async with on_hold(agent_of(), BUSY, carrier=carrier) as (network, caller, outcome):
        assert (await caller.hears()).text == SORRY
        assert isinstance(outcome.error, TransferError)
        assert outcome.error.reason == "busy"
        network.answers(DESK, NOBODY)
        [call] = [call for call in network.phone.calls if call.call_id == caller.carrier.call_id]
        await call.transfer(DESK, warm=WARM)
        await caller.waits(3.0)
        await caller.hangs_up()
        await caller.waits(0.5)
        assert network.calls[1].over.is_set()
        assert network.calls[1].status == "canceled"


async def test_caller_who_leaves_ends_both(autojump_clock: object) -> None:
    """If the caller hangs up, the person's call ends at the same instant."""
    async with on_hold(agent_of(), takes_it) as (network, caller, _):
        await caller.at(ASKED_S + 1.0)
        await caller.hangs_up()
        [line] = network.calls
        assert line.caller is not None
        await line.caller.carrier.over.wait()
        assert (caller.outcome, line.caller.outcome) == ("transferred", "transferred")
        assert line.caller.carrier.ended_at == pytest.approx(ASKED_S + 1.0 - ANSWER_S, abs=0.01)


async def test_program_ends_a_bridge(autojump_clock: object) -> None:
    """While both talk the call is live for the program, which can hang up, and say nothing."""
    async with on_hold(agent_of(), takes_it) as (network, caller, _):
        await caller.at(ASKED_S + 1.0)
        first, second = network.phone.calls
        assert (first.outcome, first.ended) == ("", False)
        with pytest.raises(CallEnded, match="is connected with another call"):
            first.say("Hello?")
        first.hang_up()
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(ASKED_S + 1.0)
        assert (first.outcome, second.outcome) == ("transferred", "transferred")


async def test_stalled_network_delays_nobody(autojump_clock: object) -> None:
    """After a network that stood still for 3 s towards the caller, the caller hears the person without that delay."""

    async def speaks_twice(line: Any) -> None:
        await line.hears()
        await line.presses("1")
        await line.waits(6.5)
        await line.speaks("Are you still there?", seconds=1.5)
        await line.waits(1.0)

    async with on_hold(agent_of(), speaks_twice) as (_, caller, __):
        await caller.at(ASKED_S + 2.0)
        caller.carrier.stall(3.0, sending=False)
        await caller.carrier.over.wait()
    said_at = ASKED_S + 6.5
    heard = [
        stretch.at + sound.start / RATE_HZ
        for stretch in caller.carrier.played()
        for sound in sounds_in(stretch.audio)
        if sound.words
    ]
    assert heard[0] == pytest.approx(said_at, abs=0.3)


async def test_limit_of_duration_ends_a_bridge(autojump_clock: object) -> None:
    """max_call_duration counts on, on hold and while both talk."""

    async def talks_on(line: Any) -> None:
        await line.hears()
        await line.presses("1")
        await line.carrier.over.wait()

    async with on_hold(agent_of(max_call_duration=10.0), talks_on) as (_, caller, __):
        await caller.carrier.over.wait()
        assert (caller.outcome, caller.carrier.ended_at) == ("transferred", pytest.approx(10.0))


async def test_decision_cuts_the_briefing(autojump_clock: object) -> None:
    """A 1 in the middle of the briefing cuts it, and the person hears the caller at once."""

    async def knows_already(line: Any) -> None:
        await line.at(0.6)
        await line.presses("1")
        await line.waits(2.0)

    async with on_hold(agent_of(), knows_already) as (network, caller, outcome):
        await caller.at(ANSWER_S + 1.0)
        await caller.speaks("I am Ann.", seconds=1.0)
        await caller.carrier.over.wait()
        assert outcome.at == pytest.approx(ANSWER_S + 0.6)
        [line] = network.calls
        assert line.caller is not None
        assert line.caller.heard_words.endswith("I am Ann.")
        assert PROMPT not in line.caller.heard_words


# Taken back -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("destination", "reason", "at"),
    [
        pytest.param(declines, "declined", ASKED_S, id="declined"),
        pytest.param(leaves, "hung_up", ANSWER_S + 1.0, id="hung-up"),
        pytest.param(says_nothing, "undecided", ANSWER_S + 8.0, id="undecided"),
        pytest.param(Voicemail(), "undecided", ANSWER_S + 8.0, id="voicemail"),
        pytest.param(BUSY, "busy", RINGS_S, id="busy"),
        pytest.param(NOBODY, "no_answer", RINGS_S + 10.0, id="nobody"),
        pytest.param(Person(takes_it, after=11.0), "no_answer", RINGS_S + 10.0, id="too-late"),
        pytest.param(FAILED, "failed", RINGS_S, id="failed"),
    ],
)
async def test_caller_is_taken_back(destination: Any, reason: str, at: float, autojump_clock: object) -> None:
    """If nobody takes the call, the tone ends at that instant, the agent goes on, and the program knows why."""
    warm = WarmTransfer(BRIEFING, prompt=PROMPT, ring_timeout=10, decision_timeout=8.0)
    async with on_hold(agent_of(), destination, warm) as (network, caller, outcome):
        sorry = await caller.hears()
        assert (sorry.text, sorry.started) == (SORRY, pytest.approx(at + 0.2))
        await caller.speaks("And now?", seconds=0.6)
        assert (await caller.hears()).text == "Yes."
        [line] = network.calls
        await line.over.wait()
    assert isinstance(outcome.error, TransferError)
    assert (outcome.error.reason, outcome.at) == (reason, pytest.approx(at))
    assert hold_sound(caller) == (pytest.approx(1.0), pytest.approx(at))
    assert caller.outcome == "caller_hung_up"


@pytest.mark.parametrize("error", [ProviderError("21210: not verified"), None])
async def test_refused_dial_takes_caller_back(error: Any, autojump_clock: object) -> None:
    """If the carrier does not take the call, or none is possible, the caller is taken back; the reason is given."""
    async with open_phone_network(agent_of(), max_calls=1 if error is None else None) as network:
        network.answers(DESK, takes_it)
        network.dial_error = error
        async with network.call_in() as caller:
            await caller.at(1.0)
            with pytest.raises(TransferError, match="not verified" if error else "limit of 1") as failed:
                await network.phone.calls[0].transfer(DESK, warm=WARM, error_message="Nobody is there.", wait=True)
            assert failed.value.reason == "failed"
            assert (await caller.hears()).text == "Nobody is there."


async def test_words_on_hold_are_answered_later(autojump_clock: object) -> None:
    """What the caller says on hold is not answered; it is when the caller is taken back."""
    async with on_hold(agent_of(), declines, how={"error_message": ""}) as (_, caller, outcome):
        await caller.at(3.0)
        await caller.speaks("Are you there?", seconds=1.0)
        answer = await caller.hears()
        assert outcome.at == pytest.approx(ASKED_S)
        assert answer.started > ASKED_S
        assert caller.dialogue == [("user", "Are you there?"), ("assistant", "Yes.")]


@pytest.mark.parametrize("person", [takes_it, declines])
async def test_agent_that_fails_keeps_the_hold(person: Any, autojump_clock: object) -> None:
    """If a provider is lost for good while the caller is on hold, the person can still take the call; else it ends."""

    async def fails() -> None:
        if RINGS_S < trio.current_time() < ANSWER_S:
            raise ProviderError("gone")

    ends: list[dict[str, Any]] = []
    agent = agent_of(stt=FaultySTT(At("stt.send", fails)))
    async with on_hold(agent, Person(person, after=14.0), on_call_end=ends.append) as (_, caller, outcome):
        await caller.carrier.over.wait()
    taken = person is takes_it
    assert (outcome.error is None) is taken
    [end] = [end for end in ends if end["direction"] == "inbound"]
    assert (end["outcome"], "gone" in end["error"]) == ("transferred" if taken else "failed", True)
    assert caller.heard_words == ("This is the desk." if taken else "")


# Who leaves -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at", "status"),
    [
        pytest.param(1.1, "canceled", id="dialling"),
        pytest.param(1.5, "canceled", id="before-ringing"),
        pytest.param(3.0, "canceled", id="ringing"),
        pytest.param(ANSWER_S + 0.5, "completed", id="briefing"),
    ],
)
async def test_caller_who_leaves_cancels_the_call(at: float, status: str, autojump_clock: object) -> None:
    """If the caller hangs up on hold, the person's phone stops ringing at once, and a briefing ends."""
    async with on_hold(agent_of(), says_nothing) as (network, caller, outcome):
        await caller.at(at)
        await caller.hangs_up()
        # A request to the carrier takes 0.2 s; the one that places the call is waited for, so that none is left.
        await caller.waits(0.201 if at > 1.2 else 0.301)
        [line] = network.calls
        assert line.over.is_set()
        assert line.status == status
    assert isinstance(outcome.error, CallEnded)
    assert caller.outcome == "caller_hung_up"


async def test_hang_up_on_hold_ends_both(autojump_clock: object) -> None:
    """A program that hangs up while the caller is on hold ends the call at once, and the phone stops ringing."""
    async with on_hold(agent_of(), takes_it) as (network, caller, outcome):
        await caller.at(3.0)
        network.phone.calls[0].hang_up()
        await caller.carrier.over.wait()
        await network.calls[0].over.wait()
        assert (caller.outcome, caller.carrier.ended_at) == ("agent_hung_up", pytest.approx(3.0))
        assert network.calls[0].status == "canceled"
    assert isinstance(outcome.error, CallEnded)


async def test_silence_on_hold_is_not_counted(autojump_clock: object) -> None:
    """silence_timeout does not hang up a caller on hold; it counts from when the caller is taken back."""
    warm = WarmTransfer(ring_timeout=6)
    async with on_hold(agent_of(silence_timeout=5.0), NOBODY, warm, {"error_message": ""}) as (_, caller, outcome):
        await caller.carrier.over.wait()
        await caller.waits(1.0)
        assert outcome.at == pytest.approx(RINGS_S + 6.0)
        assert (caller.outcome, caller.carrier.ended_at) == ("silence", pytest.approx(outcome.at + 5.0))


# The person -----------------------------------------------------------------------------------------------------------
async def test_person_is_asked_again(autojump_clock: object) -> None:
    """What the person says is not answered; silence and a wrong key repeat the question."""
    heard: list[str] = []

    async def hesitates(line: Any) -> None:
        await line.speaks("Hello? Who is there?", seconds=1.0)
        heard.append((await line.heard(0)).text)
        again = await line.heard(1)
        heard.append(again.text)
        assert again.started == pytest.approx((await line.heard(0)).ended + 6.0 + 0.2)
        await line.presses("7")
        heard.append((await line.heard(2)).text)
        await line.presses("2")
        await line.carrier.over.wait()

    keys: list[Any] = []
    async with on_hold(agent_of(), hesitates, on_dtmf=keys.append) as (_, caller, outcome):
        assert (await caller.hears()).text == SORRY
    assert heard == [f"{BRIEFING} {PROMPT}", PROMPT, PROMPT]
    assert isinstance(outcome.error, TransferError)
    # The person's keys are no wish of a caller's.
    assert keys == []


async def test_overrides_are_for_callers(autojump_clock: object) -> None:
    """What on_call_start returns is not applied to the briefing, whose call says which one it is about."""
    starts: list[dict[str, Any]] = []

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        starts.append(event)
        return {"first_message": "Welcome!"}

    async with open_phone_network(agent_of(), on_call_start=on_call_start) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            assert (await caller.hears()).text == "Welcome!"
            await network.phone.calls[0].transfer(DESK, warm=WARM, wait=True)
    [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == f"{BRIEFING} {PROMPT}"
    assert starts[1]["custom_params"] == {"transfer_of": starts[0]["call_id"]}
    assert (starts[1]["caller"], starts[1]["direction"]) == ("+15550100002", "outbound")
    del caller

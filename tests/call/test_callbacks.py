"""The callbacks of ``serve``, promise by promise: what each receives, and that none can harm a call."""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from patter_trio import Agent, Patter
from patter_trio.conversation.history import MAX_SHOWN_ENTRIES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from patter_trio.user_code import invoke
from tests.kit.call import SORRY, At, Backend, agent_of, break_down, sound_of_agent, transcripts_of
from tests.kit.depth import few

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

LONG = "We open at nine and close at five, every day but Sunday and Monday."
HEARD = "We open at nine and close at five,"
"""What is heard of it until the caller interrupts."""


def agent(backend: Backend) -> Agent:
    llm = ScriptedLLM([LONG, "All right."])
    # Without turns of keys: the key in the call is for on_dtmf.
    return backend.agent_of(llm=llm, first_message="Hello.", dtmf=False)


async def talk(caller: SimulatedCaller) -> None:
    """Run a call with an event for each callback: a greeting, a turn, a key, a barge-in, an end."""
    await caller.at(1.0)
    await caller.speaks("What are your hours?", seconds=1.0)
    await caller.presses("1")
    await caller.at(5.0)
    await caller.speaks("Stop!", seconds=0.5)
    await caller.at(8.0)
    await caller.hangs_up()


def audio_of(caller: SimulatedCaller) -> list[Any]:
    """All that the carrier got, and when; and the words in it."""
    got = [(round(arrival.at, 9), len(arrival.audio), arrival.mark) for arrival in caller.carrier.arrivals]
    return [*got, sound_of_agent(caller)]


# What they receive ----------------------------------------------------------------------------------------------------
async def test_on_transcript_payload_has_exact_keys_and_history(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """The on_transcript payload has exactly its documented keys, and its history includes the new entry."""
    said: list[dict[str, Any]] = []
    async with call_simulator(agent(backend), on_transcript=said.append) as caller:
        await talk(caller)
    assert [set(event) for event in said] == [{"role", "text", "call_id", "history"}] * 5
    assert [(event["role"], event["text"]) for event in said] == [
        ("assistant", "Hello."),
        ("user", "What are your hours?"),
        ("assistant", HEARD),  # what the caller heard
        ("user", "Stop!"),
        ("assistant", "All right."),
    ]
    for number, event in enumerate(said, 1):
        assert len(event["history"]) == number
        assert (event["history"][-1]["role"], event["history"][-1]["text"]) == (event["role"], event["text"])
        assert [set(entry) for entry in event["history"]] == [{"role", "text", "timestamp"}] * number


async def test_timestamps_are_unix_seconds_of_speech(call_simulator: CallSimulator, backend: Backend) -> None:
    """Timestamps are Unix floats in seconds and give the time of the speech."""
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent(backend), on_call_end=ends.append) as caller:
        await talk(caller)
        zero = EPOCH_UNIX_S + caller.carrier.media_start
    [end] = ends
    stamps = [entry["timestamp"] for entry in end["transcript"]]
    assert {type(stamp) for stamp in [*stamps, end["ended_at"]]} == {float}
    assert [round(stamp - zero, 3) for stamp in stamps] == [0.56, 2.5, 5.25, 6.0, 7.2]
    assert end["ended_at"] - zero == pytest.approx(8.0)


@pytest.mark.pipeline("on_message answers")
async def test_turn_callbacks_fire_in_documented_order(
    call_simulator: CallSimulator,
) -> None:
    """The callbacks of a turn fire in the order eos, transcript, message, speech ended, transcript."""
    phone, order = Patter(), list[str]()
    phone.on_user_speech_eos = lambda event: order.append("eos")
    phone.on_agent_speech_ended = lambda event: order.append("agent_speech_ended")

    async def on_message(event: dict[str, Any]) -> str:
        order.append("on_message")
        await trio.sleep(0.1)
        return "Yes."

    async with call_simulator(
        agent_of(llm=None),
        phone=phone,
        on_message=on_message,
        on_transcript=lambda event: order.append(f"on_transcript({event['role']})"),
    ) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    assert sorted(order[:3]) == sorted(["eos", "on_transcript(user)", "on_message"])
    assert order.index("eos") < order.index("on_transcript(user)")
    assert order[3:] == ["agent_speech_ended", "on_transcript(assistant)"]


@pytest.mark.pipeline("on_message answers")
@pytest.mark.costly
async def test_history_is_capped_while_final_transcript_is_complete(
    call_simulator: CallSimulator,
) -> None:
    """Callbacks receive the last 200 history entries, and the final transcript is complete."""
    phone, said, asked, ends = Patter(), list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()

    def on_message(event: dict[str, Any]) -> str:
        asked.append(event)
        return "Yes."

    quick = agent_of(llm=None, tts=ScriptedTTS(first_audio=0.0, duration=0.1))
    async with call_simulator(
        quick, phone=phone, on_message=on_message, on_transcript=said.append, on_call_end=ends.append
    ) as caller:
        await caller.waits(0.1)
        for number in range(MAX_SHOWN_ENTRIES + 5):
            phone.calls[0].say(f"{number}")
        while len(said) < MAX_SHOWN_ENTRIES + 5:
            await caller.waits(1.0)
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        assert len(phone.calls[0].history) == MAX_SHOWN_ENTRIES
    texts = [f"{number}" for number in range(MAX_SHOWN_ENTRIES + 5)]
    assert [entry["text"] for entry in asked[0]["history"]] == texts[-MAX_SHOWN_ENTRIES:]
    assert [entry["text"] for entry in said[-1]["history"]] == [*texts, "Hello", "Yes."][-MAX_SHOWN_ENTRIES:]
    assert [entry["text"] for entry in ends[0]["transcript"]] == [*texts, "Hello", "Yes."]


async def test_on_dtmf_reports_each_key_with_its_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """The on_dtmf callback reports each DTMF key with its call."""
    pressed: list[dict[str, Any]] = []

    async def on_dtmf(event: dict[str, Any]) -> None:
        pressed.append(event)

    async with call_simulator(backend.agent_of(), on_dtmf=on_dtmf) as caller:
        await caller.presses("0123456789*#ABCD")
        await caller.waits(0.1)
        assert pressed == [{"call_id": caller.carrier.call_id, "digit": digit} for digit in "0123456789*#ABCD"]


async def test_live_call_handles_carry_application_data(call_simulator: CallSimulator, backend: Backend) -> None:
    """The handles of live calls carry data of the application."""
    phone, notes = Patter(), list[Any]()

    def on_call_start(event: dict[str, Any]) -> None:
        notes.append([call.call_id for call in phone.calls])  # it is asked before the call is connected

    def on_transcript(event: dict[str, Any]) -> None:
        [call] = phone.calls
        call.data["lines"] = call.data.get("lines", 0) + 1

    def on_call_end(event: dict[str, Any]) -> None:
        notes.append(kept.data)

    async with call_simulator(
        agent(backend), phone=phone, on_call_start=on_call_start, on_transcript=on_transcript, on_call_end=on_call_end
    ) as caller:
        await caller.waits(0.1)
        [kept] = phone.calls
        assert (kept.call_id, kept.caller, kept.callee) == (caller.carrier.call_id, "+15550100001", "+15550100002")
        assert kept.data == {}
        await talk(caller)
    assert phone.calls == ()
    assert notes == [[], {"lines": 5}]


async def test_overrides_dict_shared_by_calls_does_not_mix(call_simulator: CallSimulator, backend: Backend) -> None:
    """Each call keeps the overrides as on_call_start returned them, even if the application reuses the dict."""
    llm = ScriptedLLM(["Yes."])
    variables: dict[str, str] = {}
    overrides = {"variables": variables, "first_message": "Hello {name}.", "system_prompt": "Talk to {name}."}
    names = ["Bob", "Ann"]

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        variables["name"] = names.pop(0)
        return overrides

    phone, served = Patter(), backend.agent_of(llm=llm)
    async with (
        call_simulator(served, phone=phone, on_call_start=on_call_start) as bob,
        call_simulator(served, phone=phone, on_call_start=on_call_start) as ann,
    ):
        assert [(await caller.heard(0)).text for caller in (bob, ann)] == ["Hello Bob.", "Hello Ann."]
        for caller in (bob, ann):
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
    assert [request[0]["content"] for request in llm.requests] == ["Talk to Bob.", "Talk to Ann."]


# What the published SDK gets wrong ------------------------------------------------------------------------------------
async def test_final_transcript_is_the_whole_conversation(call_simulator: CallSimulator, backend: Backend) -> None:
    """The transcript of on_call_end has every entry of both sides; a cut reply has only the words heard."""
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent(backend), on_call_end=ends.append) as caller:
        await talk(caller)
    assert [(entry["role"], entry["text"]) for entry in ends[0]["transcript"]] == [
        ("assistant", "Hello."),
        ("user", "What are your hours?"),
        ("assistant", HEARD),
        ("user", "Stop!"),
        ("assistant", "All right."),
    ]


def raises(event: dict[str, Any]) -> None:
    raise KeyError("customer")


async def raises_later(event: dict[str, Any]) -> None:
    await trio.sleep(0.3)
    raise KeyError("customer")


async def never_returns(event: dict[str, Any]) -> None:
    await trio.sleep_forever()


async def is_slow(event: dict[str, Any]) -> None:
    await trio.sleep(10.0)


def returns_a_wrong_type(event: dict[str, Any]) -> int:
    return 7


def mutates_its_payload(event: dict[str, Any]) -> None:
    for value in event.values():
        if isinstance(value, list):
            value.clear()
    event.clear()
    event["call_id"] = "another"


async def lets_a_group_out(event: dict[str, Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises_later, event)
        nursery.start_soon(raises_later, event)


MISBEHAVIOURS = [
    raises,
    raises_later,
    never_returns,
    is_slow,
    returns_a_wrong_type,
    mutates_its_payload,
    lets_a_group_out,
]


@pytest.fixture(scope="module")
def well_behaved() -> dict[tuple[str, str], list[Any]]:
    """The audio of the call whose callbacks do nothing, with its instants, by the backend and the carrier."""
    return {}


@pytest.mark.parametrize(
    ("name", "misbehaves"),
    [
        pytest.param(
            name,
            misbehaves,
            id=f"{name}-{misbehaves.__name__}",
            # Each callback with one misbehaviour and one callback with each, not the product of the two.
            marks=() if name == "on_transcript" or misbehaves is raises else pytest.mark.deep,
        )
        for name in ("on_transcript", "on_call_end", "on_dtmf")
        for misbehaves in MISBEHAVIOURS
    ],
)
async def test_misbehaving_callback_moves_no_audio(
    call_simulator: CallSimulator,
    caplog: pytest.LogCaptureFixture,
    well_behaved: dict[tuple[str, str], list[Any]],
    name: str,
    misbehaves: Any,
    backend: Backend,
    carrier: str,
) -> None:
    """A misbehaving callback changes no audio, no word and no instant of an event."""
    if (backend.name, carrier) not in well_behaved:
        async with call_simulator(agent(backend)) as caller:
            await talk(caller)
        well_behaved[backend.name, carrier] = [audio_of(caller), caller.dialogue, caller.events]
    audio, transcript, events = well_behaved[backend.name, carrier]
    async with call_simulator(agent(backend), **{name: misbehaves}) as caller:
        await talk(caller)
    assert audio_of(caller) == audio
    assert caller.dialogue == transcript
    assert [(round(at, 9), event) for at, event, _ in caller.events] == [
        (round(at, 9), event) for at, event, _ in events
    ]
    lines = [record for record in caplog.records if record.name == "patter_trio.events"]
    if misbehaves in (raises, raises_later, lets_a_group_out):
        assert all(record.levelno == logging.WARNING and record.exc_info for record in lines)
        assert len(lines) == (5 if name == "on_transcript" else 1)
        assert all(caller.carrier.call_id in line.message and misbehaves.__name__ in line.message for line in lines)
    elif misbehaves is never_returns or (misbehaves is is_slow and name == "on_transcript"):
        assert lines
        assert all("time limit was over" in line.message for line in lines)
    else:
        assert lines == []


@pytest.mark.parametrize("misbehaves", few([raises, raises_later, returns_a_wrong_type, mutates_its_payload], 2))
@pytest.mark.costly
async def test_misbehaving_on_call_start_leaves_the_agent(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, misbehaves: Any, backend: Backend
) -> None:
    """A misbehaving on_call_start leaves the agent as it is and delays only the greeting, by its own 0.3 s."""
    async with call_simulator(agent(backend)) as caller:
        await talk(caller)
    expected = (audio_of(caller), caller.dialogue)
    async with call_simulator(agent(backend), on_call_start=misbehaves) as caller:
        await talk(caller)
    *got, words = audio_of(caller)
    late = 0.3 if misbehaves is raises_later else 0.0  # only the greeting
    shifted = [(round(at - late, 9) if at < 2.0 else at, size, mark) for at, size, mark in got]
    assert ([*shifted, words], caller.dialogue) == expected
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (misbehaves is not mutates_its_payload)


async def blocks(event: dict[str, Any]) -> str:
    time.sleep(0.06)  # noqa: ASYNC251 (what it must not do)
    return "Yes."


def blocks_plainly(event: dict[str, Any]) -> str:
    time.sleep(0.06)
    return "Yes."


async def on_message_hangs(event: dict[str, Any]) -> str:
    await trio.sleep_forever()
    return ""


async def on_message_floods(event: dict[str, Any]) -> AsyncIterator[str]:
    while True:
        yield "A sentence of some length, and then another one. "


def on_message_breaks(event: dict[str, Any]) -> str:
    event["history"].append("spoiled")
    raise ValueError("no such room")


@pytest.mark.pipeline("on_message answers")
@pytest.mark.parametrize("misbehaves", few([on_message_hangs, on_message_floods, on_message_breaks], 1))
@pytest.mark.costly
async def test_misbehaving_on_message_moves_no_other_audio(
    call_simulator: CallSimulator, misbehaves: Any, backend: Backend
) -> None:
    """A call whose on_message hangs, floods or breaks changes no sample and no word of another call."""

    async def other_call(on_message: Any) -> list[Any]:
        voice = ScriptedTTS(duration=4.0)
        async with (
            call_simulator(agent_of(llm=None, tts=voice), on_message=on_message) as one,
            call_simulator(agent(backend)) as other,
        ):
            await one.speaks("Hello there", seconds=0.5, wait=False)
            await talk(other)
        return [audio_of(other), other.dialogue]

    assert await other_call(misbehaves) == await other_call(lambda event: "Yes.")


@pytest.mark.deep
async def test_concurrent_calls_share_providers_without_mixing(call_simulator: CallSimulator, backend: Backend) -> None:
    """Three concurrent calls that share their providers sound, to the instant, like the same calls alone."""
    vad, stt, tts = ScriptedVAD(), ScriptedSTT(interim_every=0.3), ScriptedTTS()
    phone = Patter()

    def shared() -> Agent:
        llm = ScriptedLLM(lambda messages: f"You said: {messages[-1]['content']}.")
        return backend.agent_of(vad=vad, stt=stt, tts=tts, llm=llm)

    async def say(caller: SimulatedCaller, number: int) -> None:
        await caller.at(0.1 + 0.3 * number)
        for word in ("first", "second"):
            await caller.speaks(f"{word} of {number}", seconds=1.0)
            await caller.hears()

    alone = []
    for number in range(3):
        async with call_simulator(shared(), phone=phone) as caller:
            await say(caller, number)
        alone.append((audio_of(caller), caller.dialogue))
    async with (
        call_simulator(shared(), phone=phone) as one,
        call_simulator(shared(), phone=phone) as two,
        call_simulator(shared(), phone=phone) as three,
    ):
        await one.waits(0.01)
        assert len({call.call_id for call in phone.calls}) == 3
        async with trio.open_nursery() as nursery:
            for number, caller in enumerate((one, two, three)):
                nursery.start_soon(say, caller, number)
        states = [call.conversation_state for call in phone.calls]
        assert states == [{"user": "listening", "agent": "idle"}] * 3
    for number, caller in enumerate((one, two, three)):
        assert caller.dialogue == [
            ("user", f"first of {number}"),
            ("assistant", f"You said: first of {number}."),
            ("user", f"second of {number}"),
            ("assistant", f"You said: second of {number}."),
        ]
        assert (audio_of(caller), caller.dialogue) == alone[number]
        assert {event["call_id"] for _, _, event in caller.events} == {caller.carrier.call_id}


@pytest.mark.parametrize("answer", ["Yes.", "No."])
async def test_short_answers_are_kept_and_joined(call_simulator: CallSimulator, answer: str, backend: Backend) -> None:
    """Yes and No are never dropped as noise, and words within half a second of them join the same message."""
    llm = ScriptedLLM(lambda messages: f"You said {messages[-1]['content']}")
    async with call_simulator(backend.agent_of(llm=llm, endpointing_ms=200, vad=ScriptedVAD(end_delay=0.2))) as caller:
        await caller.speaks(answer, seconds=0.3)
        await caller.waits(0.3)
        await caller.speaks("Of course", seconds=0.5)
        assert (await caller.hears()).text == f"You said {answer} Of course"
        await caller.speaks(answer, seconds=0.3)
        assert (await caller.hears()).text == f"You said {answer}"
    assert transcripts_of(caller, "user")[-1] == answer
    assert [text for role, text in caller.dialogue if role == "user"] == [f"{answer} Of course", answer]


async def test_llm_gets_each_message_once(call_simulator: CallSimulator, backend: Backend) -> None:
    """Each request to the LLM has each message of the conversation exactly once, in order."""
    llm = ScriptedLLM(["One.", "Two."])
    async with call_simulator(backend.agent_of(llm=llm, first_message="Hello.")) as caller:
        await caller.hears()
        for text in ("First", "Second"):
            await caller.speaks(text, seconds=0.5)
            await caller.hears()
    assert [[message["content"] for message in request] for request in llm.requests] == [
        ["You are brief.", "Hello.", "First"],
        ["You are brief.", "Hello.", "First", "One.", "Second"],
    ]


@pytest.mark.pipeline("on_call_start gives other providers")
async def test_concurrent_calls_have_their_own_overrides(
    call_simulator: CallSimulator,
) -> None:
    """Overrides of on_call_start hold for their own call, and not for concurrent calls or the agent."""
    phone = Patter()
    voices = {"de": ScriptedTTS(duration=1.0), "fr": ScriptedTTS(duration=2.0)}
    ears = {"de": ScriptedSTT(final_delay=0.1), "fr": ScriptedSTT(final_delay=0.3)}
    llms = {"de": ScriptedLLM(["Ja."]), "fr": ScriptedLLM(["Oui."])}
    served = agent_of("Yes.", first_message="Hello.", system_prompt="Desk of {hotel}.", variables={"hotel": "Miller"})
    before = repr(served)

    def overrides(language: str) -> Any:
        async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
            await trio.sleep(0.2)  # so that the three overlap
            return {
                "language": language,
                "tts": voices[language],
                "stt": ears[language],
                "llm": llms[language],
                "first_message": f"{language} {{hotel}}",
                "variables": {"hotel": language.upper()},
            }

        return on_call_start

    async with (
        call_simulator(served, phone=phone, on_call_start=overrides("de")) as german,
        call_simulator(served, phone=phone, on_call_start=overrides("fr")) as french,
        call_simulator(served, phone=phone) as plain,
        trio.open_nursery() as nursery,
    ):
        for caller in (german, french, plain):
            nursery.start_soon(_one_turn, caller)
    assert [caller.dialogue for caller in (german, french, plain)] == [
        [("assistant", "de DE"), ("user", "Who is there?"), ("assistant", "Ja.")],
        [("assistant", "fr FR"), ("user", "Who is there?"), ("assistant", "Oui.")],
        [("assistant", "Hello."), ("user", "Who is there?"), ("assistant", "Yes.")],
    ]
    lengths = [caller.payloads("agent_speech_ended")[1]["speech_duration_ms"] for caller in (german, french, plain)]
    assert lengths == [1000, 2000, 240]
    assert llms["de"].requests[0][0]["content"] == "Desk of DE."
    assert repr(served) == before


async def _one_turn(caller: SimulatedCaller) -> None:
    await caller.hears()
    await caller.speaks("Who is there?", seconds=0.8)
    await caller.hears()


async def test_limits_may_be_overridden(call_simulator: CallSimulator, backend: Backend) -> None:
    """max_call_duration and silence_timeout end the call at the instants that on_call_start gave."""
    for overrides, outcome in (({"max_call_duration": 3.0}, "completed"), ({"silence_timeout": 2.0}, "silence")):
        async with call_simulator(backend.agent_of(), on_call_start=lambda event, given=overrides: given) as caller:
            await caller.carrier.over.wait()
        assert (caller.outcome, caller.carrier.ended_at) == (outcome, pytest.approx(next(iter(overrides.values()))))


async def test_apology_after_a_bug_is_overridden(call_simulator: CallSimulator, backend: Backend) -> None:
    """The apology after a bug has the error message and the voice that on_call_start gave."""
    agent = backend.faulty_agent(At("vad.feed", break_down))
    overrides = {"error_message": "Pardon.", "tts": ScriptedTTS()}
    async with call_simulator(agent, on_call_start=lambda event: overrides) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.carrier.over.wait()
    assert sound_of_agent(caller) == "Pardon."
    assert SORRY not in sound_of_agent(caller)


async def test_interrupted_reply_keeps_what_was_heard(call_simulator: CallSimulator, backend: Backend) -> None:
    """The history and the LLM's next request have only the heard words of a cut reply."""
    llm = ScriptedLLM([LONG, "All right."])
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("Your hours?", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop!", seconds=0.5)
        cut = await caller.heard(0)
        await caller.heard(1)
        sound = sound_of_agent(caller)
    assert cut.interrupted
    assert cut.text == f"{HEARD} every day"
    assert sound.startswith(cut.text)
    assert llm.requests[1][1:] == [
        {"role": "user", "content": "Your hours?"},
        {"role": "assistant", "content": cut.text},
        {"role": "user", "content": "Stop!"},
    ]
    assert caller.dialogue[1] == ("assistant", cut.text)


@pytest.mark.parametrize("function", [blocks_plainly, blocks])
async def test_blocking_callback_is_reported_with_name_and_time(
    caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    """A function or coroutine that blocks the event loop for 60 ms is reported by name.

    The test runs on the real clock.
    """
    assert await invoke.call(function, {}) == "Yes."
    [record] = caplog.records
    assert f"{function.__name__} blocked every call for " in record.message


async def test_blocking_is_reported_in_virtual_time(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that blocks for 60 ms of real time is reported in a simulated call, too, and moves no event."""

    def blocks_in_test(event: dict[str, Any]) -> None:
        time.sleep(0.06)

    async with call_simulator(backend.agent_of("Yes."), on_transcript=blocks_in_test) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        await caller.hears()
    assert "blocks_in_test blocked every call for " in caplog.text


async def test_generator_blocking_between_pieces_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The watch on blocking also reports a generator that blocks between its pieces."""

    async def slow_database() -> AsyncIterator[str]:
        yield "One moment. "
        time.sleep(0.06)  # noqa: ASYNC251 (what it must not do)
        yield "Yes."

    pieces = invoke.UserIterator(slow_database, slow_database())
    assert [piece async for piece in pieces] == ["One moment. ", "Yes."]
    [record] = caplog.records
    assert "slow_database blocked every call for " in record.message


async def test_blocking_watch_leaves_function_behaviour_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    """Results, exceptions, cancellation, context and its own awaitables pass through the watch on blocking."""

    class Plain:
        def __await__(self) -> Any:
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 (this is awaiting it)
            return "plain"

    class WithoutSend:
        def __await__(self) -> Any:
            return iter(())

    async def passes(event: str) -> str:
        with trio.move_on_after(0.01) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.01)
        return event

    async def is_cancelled(event: list[str]) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            event.append("cancelled")
            raise

    assert await invoke.call(passes, "through") == "through"
    assert await invoke.call(lambda event: Plain(), "x") == "plain"
    assert await invoke.call(lambda event: WithoutSend(), "x") is None
    seen: list[str] = []
    with trio.move_on_after(0.01) as scope:
        await invoke.call(is_cancelled, seen)
    assert (scope.cancelled_caught, seen) == (True, ["cancelled"])
    with pytest.raises(invoke.ApplicationError, match="raises_later raised KeyError: 'customer'") as raised:
        await invoke.call(raises_later, {})
    assert isinstance(raised.value.__cause__, KeyError)
    assert caplog.records == []

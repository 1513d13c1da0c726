"""Each hook at its place in a call: what it is given, what becomes of its answer, and what None and "" mean."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from patter_trio import HookContext, Patter, PatterDeprecationWarning, PipelineHooks, filter_for_tts
from patter_trio.abc import Transcript
from patter_trio.audio import g711
from patter_trio.audio.formats import PCM16_8K
from patter_trio.call.hooks import HookRunner
from patter_trio.metrics.internal_events import HookCalled, LlmStarted, SentenceBlocked, TurnVetoed
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Witness, agent_of, edges, sound_of_agent, transcripts_of

pytestmark = [pytest.mark.pipeline("an engine has no hooks"), pytest.mark.all_carriers]

HOURS = "We open at nine. We close at five."


async def ask(caller: SimulatedCaller, text: str = "Your hours?") -> None:
    await caller.at(0.5)
    await caller.speaks(text, seconds=1.0)


async def answered(call_simulator: CallSimulator, hooks: PipelineHooks, *replies: str, **options: Any) -> Any:
    """One question and its answer, as the caller heard it."""
    llm = options.setdefault("llm", ScriptedLLM(replies or [HOURS]))
    async with call_simulator(agent_of(hooks=hooks, **options)) as caller:
        await ask(caller)
        await caller.hears()
    return caller, llm


# The order and the context --------------------------------------------------------------------------------------------
async def test_hooks_run_in_data_flow_order(call_simulator: CallSimulator) -> None:
    """The call runs the hooks in the order in which data reaches them."""
    asked: list[str] = []

    def note(name: str) -> Any:
        def hook(value: Any, *rest: Any) -> Any:
            if name not in asked:
                asked.append(name)
            return value

        return hook

    names = ["before_send_to_stt", "before_stt", "after_stt", "after_transcribe", "before_llm"]
    behind = ["before_synthesize", "before_tts", "after_tts", "after_synthesize"]
    hooks = PipelineHooks(
        **{name: note(name) for name in [*names, *behind]},
        after_llm={tier: note(tier) for tier in ("on_sentence", "on_response", "on_chunk")},
    )
    transforms = [note("transform 0"), note("transform 1")]
    guard = {"name": "g", "check": lambda text: note("guardrail")(text) == "never"}
    caller, _ = await answered(call_simulator, hooks, text_transforms=transforms, guardrails=[guard])
    between = ["on_chunk", "on_response", "on_sentence", "transform 0", "transform 1", "guardrail"]
    assert asked == [*names, *between, *behind]
    assert caller.dialogue == [("user", "Your hours?"), ("assistant", HOURS)]


async def test_hook_context_has_call_and_current_history(call_simulator: CallSimulator) -> None:
    """The hook context names the call and holds the history so far."""
    seen: dict[str, HookContext] = {}
    async with call_simulator(
        agent_of(
            HOURS,
            first_message="Hello.",
            hooks=PipelineHooks(
                after_transcribe=lambda text, ctx: seen.setdefault("after_transcribe", ctx) and text,
                before_llm=lambda messages, ctx: seen.setdefault("before_llm", ctx) and None,
                after_synthesize=lambda pcm, text, ctx: seen.setdefault("after_synthesize", ctx) and pcm,
            ),
        )
    ) as caller:
        await caller.hears()
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.hears()
        calls = {(ctx.call_id, ctx.caller, ctx.callee) for ctx in seen.values()}
        assert calls == {(caller.carrier.call_id, "+15550100001", "+15550100002")}
        assert [(entry["role"], entry["text"]) for entry in seen["before_llm"].history] == [
            ("assistant", "Hello."),
            ("user", "Your hours?"),
        ]
        assert [entry["text"] for entry in seen["after_transcribe"].history] == ["Hello."]
        assert seen["after_synthesize"].history == ()
        assert type(seen["before_llm"].history[0]["timestamp"]) is float


async def test_changing_what_a_hook_is_given_changes_nothing(call_simulator: CallSimulator) -> None:
    """A before_llm hook that changes its messages and its context in place changes neither request nor history."""

    def before_llm(messages: list[dict[str, Any]], ctx: HookContext) -> None:
        messages[0]["content"] = "You are rude."
        messages.clear()
        for entry in ctx.history:
            entry["text"] = "something else"

    caller, llm = await answered(call_simulator, PipelineHooks(before_llm=before_llm))
    assert llm.requests == [
        [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Your hours?"}]
    ]
    assert caller.dialogue == [("user", "Your hours?"), ("assistant", HOURS)]


@pytest.mark.parametrize("sync", [True, False])
async def test_hooks_may_be_sync_or_async(call_simulator: CallSimulator, sync: bool) -> None:
    """after_transcribe and before_synthesize may be sync or async functions."""

    def upper(text: str) -> str:
        return text.upper()

    async def async_upper(text: str) -> str:
        await trio.sleep(0.05)
        return text.upper()

    hook = upper if sync else async_upper
    hooks = PipelineHooks(after_transcribe=hook, before_synthesize=hook)
    caller, _ = await answered(call_simulator, hooks)
    assert caller.dialogue == [("user", "YOUR HOURS?"), ("assistant", HOURS.upper())]


async def test_call_without_hooks_adds_no_await(call_simulator: CallSimulator) -> None:
    """A call without hooks adds no await and equals a call with empty hooks in every instant."""

    async def once(**options: Any) -> Any:
        async with call_simulator(agent_of(HOURS, **options)) as caller:
            await ask(caller)
            await caller.hears()
        return edges(caller), [(round(a.at, 6), len(a.audio), a.mark) for a in caller.carrier.arrivals]

    assert await once() == await once(hooks=PipelineHooks()) == await once(hooks=None)
    hook_runner = HookRunner(agent_of(hooks=PipelineHooks(before_llm=lambda messages: None)), None, lambda *_: None)  # type: ignore[arg-type]
    assert hook_runner.incoming(PCM16_8K) is None
    assert not hook_runner.of_reply(PCM16_8K, lambda *_: None, generated=True).touches_audio


# The caller's audio ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["before_send_to_stt", "before_stt"])
@pytest.mark.parametrize("accepts", [PCM16_8K, None])
async def test_before_stt_receives_16_bit_8_khz_audio(call_simulator: CallSimulator, name: str, accepts: Any) -> None:
    """The before_stt hook receives the caller's audio as 16-bit samples at 8 kHz."""
    heard: list[bytes] = []
    stt = ScriptedSTT() if accepts is None else ScriptedSTT(accepts=accepts)
    caller, _ = await answered(call_simulator, PipelineHooks(**{name: lambda pcm: heard.append(pcm) or pcm}), stt=stt)
    seconds = sum(map(len, heard)) / 2 / 8000
    assert seconds == pytest.approx(caller.times("call_end")[0], abs=0.1)
    assert caller.dialogue == [("user", "Your hours?"), ("assistant", HOURS)]


@pytest.mark.parametrize("name", ["before_send_to_stt", "before_stt"])
async def test_hooks_never_get_empty_audio(call_simulator: CallSimulator, name: str) -> None:
    """Neither the hooks before the STT nor the STT itself are called with no audio, also at the end of the call."""
    lengths: list[int] = []

    def hook(pcm: bytes) -> bytes:
        lengths.append(len(pcm))
        return pcm

    async with call_simulator(agent_of(hooks=PipelineHooks(**{name: hook}))) as caller:
        await ask(caller)
        await caller.hears()
        await caller.hangs_up()
    assert lengths
    assert 0 not in lengths


@pytest.mark.parametrize("nothing", [None, b"", bytearray(), memoryview(b"")])
@pytest.mark.parametrize("name", ["before_send_to_stt", "before_stt"])
async def test_empty_answer_before_stt_drops_audio(call_simulator: CallSimulator, name: str, nothing: Any) -> None:
    """No bytes from a hook before the STT drop the audio as None does: the STT hears silence, and no words come."""
    hooks = PipelineHooks(**{name: lambda pcm: nothing})
    async with call_simulator(agent_of(hooks=hooks)) as caller:
        await ask(caller)
        await caller.waits(4.0)
    assert transcripts_of(caller, "user") == []


async def test_audio_dropped_before_stt_still_reaches_vad(
    call_simulator: CallSimulator,
) -> None:
    """The STT receives silence for audio that before_stt drops, and the VAD still hears the caller's voice."""
    async with call_simulator(agent_of(hooks=PipelineHooks(before_send_to_stt=lambda pcm: None))) as caller:
        await ask(caller)
        await caller.waits(5.0)
    assert caller.times("user_speech_started")
    assert caller.times("user_speech_ended")
    assert caller.dialogue == []


async def test_the_stt_clock_is_right_after_dropped_audio(call_simulator: CallSimulator) -> None:
    """A before_stt hook that drops the first second changes no instant of the words that follow."""

    async def once(hook: Any) -> list[tuple[float, str]]:
        async with call_simulator(agent_of(HOURS, hooks=PipelineHooks(before_stt=hook))) as caller:
            await caller.at(2.0)
            await caller.speaks("Your hours?", seconds=1.0)
            await caller.hears()
        return edges(caller)

    taken = 0

    def drop_first_second(pcm: bytes) -> bytes | None:
        nonlocal taken
        taken += len(pcm) // 2
        return None if taken <= 8000 else pcm

    assert await once(drop_first_second) == await once(None)
    assert taken > 8000


async def test_changed_audio_is_what_the_stt_gets(call_simulator: CallSimulator) -> None:
    """The STT gets the audio that before_stt returns: silence in place of speech makes no turn."""
    caller, llm = await answered_silently(call_simulator, PipelineHooks(before_stt=lambda pcm: bytes(len(pcm))))
    assert caller.dialogue == []
    assert llm.requests == []


async def answered_silently(call_simulator: CallSimulator, hooks: PipelineHooks, **options: Any) -> Any:
    """One question, and five seconds in which nobody says anything."""
    llm = options.setdefault("llm", ScriptedLLM([HOURS]))
    async with call_simulator(agent_of(hooks=hooks, **options)) as caller:
        await ask(caller)
        await caller.waits(5.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
    return caller, llm


# The caller's words ---------------------------------------------------------------------------------------------------
async def test_after_stt_can_rewrite_partial_and_final_transcripts(call_simulator: CallSimulator) -> None:
    """The after_stt hook receives partial and final transcripts and can rewrite them."""
    seen: list[tuple[str, bool]] = []

    def rewrite(transcript: Transcript) -> Transcript | str:
        seen.append((transcript.text, transcript.final))
        text = transcript.text.replace("Your", "My")
        return attrs.evolve(transcript, text=text) if transcript.final else text

    caller, llm = await answered(
        call_simulator, PipelineHooks(after_stt=rewrite), stt=ScriptedSTT(interim_every=0.3), llm=ScriptedLLM([HOURS])
    )
    assert seen[-1] == ("Your hours?", True)
    assert {final for _, final in seen} == {True, False}
    assert [payload["text"] for payload in caller.payloads("transcript_partial")] == ["My", "My"]
    assert llm.requests[0][-1]["content"] == "My hours?"
    assert caller.dialogue[0] == ("user", "My hours?")


async def test_after_stt_none_drops_partial_and_empties_final(
    call_simulator: CallSimulator,
) -> None:
    """A None from after_stt drops a partial transcript and removes the words of a final one."""
    drop_partials = PipelineHooks(after_stt=lambda transcript: transcript if transcript.final else None)
    caller, _ = await answered(call_simulator, drop_partials, stt=ScriptedSTT(interim_every=0.3))
    assert caller.payloads("transcript_partial") == []
    assert caller.dialogue[0] == ("user", "Your hours?")
    drop_all = PipelineHooks(after_stt=lambda transcript: None)
    silent, llm = await answered_silently(call_simulator, drop_all, stt=ScriptedSTT(interim_every=0.3))
    assert (silent.dialogue, llm.requests, silent.times("user_speech_eos")) == ([], [], [])


# The question ---------------------------------------------------------------------------------------------------------
async def test_before_llm_replaces_messages_once_per_turn(
    call_simulator: CallSimulator,
) -> None:
    """The before_llm hook replaces the messages once per turn, and None keeps them."""
    asked: list[list[Mapping[str, Any]]] = []

    async def augment(messages: list[Mapping[str, Any]], ctx: HookContext) -> list[Mapping[str, Any]] | None:
        asked.append(messages)
        await trio.sleep(0.1)
        if len(asked) > 1:
            return None
        return [*messages[:-1], {"role": "system", "content": "Fact: 9 to 5."}, messages[-1]]

    llm = ScriptedLLM(["One.", "Two."])
    async with call_simulator(agent_of(llm=llm, hooks=PipelineHooks(before_llm=augment))) as caller:
        for _ in range(2):
            await caller.speaks("Your hours?", seconds=1.0)
            await caller.hears()
    assert [message["content"] for message in llm.requests[0]] == ["You are brief.", "Fact: 9 to 5.", "Your hours?"]
    assert [message["content"] for message in llm.requests[1]] == [
        "You are brief.", "Your hours?", "One.", "Your hours?",
    ]  # fmt: skip
    assert len(asked) == len(llm.requests) == 2


# The answer -----------------------------------------------------------------------------------------------------------
async def test_on_chunk_rewrites_pieces_before_sentence_splitting(
    call_simulator: CallSimulator,
) -> None:
    """The on_chunk hook rewrites each piece of the answer before the call splits it into sentences."""
    chunks: list[str] = []

    def no_ums(chunk: str) -> str:
        chunks.append(chunk)
        return chunk.replace(" um", "")

    caller, _ = await answered(
        call_simulator, PipelineHooks(after_llm={"on_chunk": no_ums}), "We um open at um nine. We um close."
    )
    assert chunks == ["We", " um", " open", " at", " um", " nine.", " We", " um", " close."]
    assert caller.dialogue[1] == ("assistant", "We open at nine. We close.")
    assert sound_of_agent(caller) == "We open at nine.We close."


async def test_on_response_receives_whole_answer_before_speech(call_simulator: CallSimulator) -> None:
    """The on_response hook receives the whole answer, and no speech starts before the hook returns."""
    seen: list[tuple[str, HookContext]] = []

    async def validate(text: str, ctx: HookContext) -> str:
        seen.append((text, ctx))
        await trio.sleep(0.5)
        return "Nine to five. That is all."

    plain, _ = await answered(call_simulator, PipelineHooks(), HOURS)
    caller, _ = await answered(call_simulator, PipelineHooks(after_llm={"on_response": validate}), HOURS)
    assert [text for text, _ in seen] == [HOURS]
    assert caller.dialogue[1] == ("assistant", "Nine to five. That is all.")
    # Not before the model's last token (0.3 s after its first) and the hook; without it the first sentence is spoken
    # as soon as the fifth token is there.
    assert caller.times("llm_token") == pytest.approx(plain.times("llm_token"))
    later = caller.times("audio_out")[0] - plain.times("audio_out")[0]
    assert later == pytest.approx(0.5 + 0.3 * (7 - 4) / 7, abs=0.001)


async def test_on_response_none_keeps_and_empty_silences_answer(call_simulator: CallSimulator) -> None:
    """A None from on_response keeps the answer, and an empty text makes the agent say nothing."""
    kept, _ = await answered(call_simulator, PipelineHooks(after_llm={"on_response": lambda text: None}))
    assert kept.dialogue[1] == ("assistant", HOURS)
    silent, _ = await answered_silently(call_simulator, PipelineHooks(after_llm={"on_response": lambda text: ""}))
    assert silent.dialogue == [("user", "Your hours?")]
    assert not silent.times("agent_speech_started")


async def test_empty_answer_skips_hooks_and_stays_silent(
    call_simulator: CallSimulator,
) -> None:
    """An answer without text reaches no hook and stays silent."""
    asked: list[str] = []

    def hook(text: str) -> str:
        asked.append(text)
        return "Are you there?"

    hooks = PipelineHooks(after_llm={"on_chunk": hook, "on_sentence": hook, "on_response": hook})
    async with call_simulator(agent_of(llm=None, hooks=hooks), on_message=lambda event: None) as caller:
        await ask(caller)
        await caller.waits(3.0)
        assert caller.state["agent"] == "idle"
    assert asked == []
    assert caller.dialogue == [("user", "Your hours?")]


async def test_on_sentence_rewrites_none_keeps_and_empty_drops(call_simulator: CallSimulator) -> None:
    """on_sentence replaces a sentence by the text it returns; None keeps the sentence, an empty text drops it."""

    def rewrite(sentence: str) -> str | None:
        return {"We open at nine.": None, "Jim Miller lives here.": "", "Ask for Jim Miller.": "Ask at the office."}[
            sentence
        ]

    hooks = PipelineHooks(after_llm={"on_sentence": rewrite})
    caller, _ = await answered(call_simulator, hooks, "We open at nine. Jim Miller lives here. Ask for Jim Miller.")
    assert caller.dialogue[1] == ("assistant", "We open at nine. Ask at the office.")
    assert sound_of_agent(caller) == "We open at nine.Ask at the office."


async def test_the_legacy_callable_works_as_on_response(call_simulator: CallSimulator) -> None:
    """A callable given as after_llm, getpatter's older form, runs as on_response and warns of its deprecation."""
    with pytest.warns(PatterDeprecationWarning):
        hooks = PipelineHooks(after_llm=lambda text, ctx: text.upper() + ctx.caller[:0])
    caller, _ = await answered(call_simulator, hooks)
    assert caller.dialogue[1] == ("assistant", HOURS.upper())


async def test_heard_text_of_rewritten_reply_is_rewrite(call_simulator: CallSimulator) -> None:
    """The heard text of a rewritten reply is the rewritten text."""

    def rewrite(sentence: str) -> str:
        return sentence.replace("nine", "eight thirty").replace("five", "midnight on Sundays only")

    agent = agent_of(HOURS, "Good.", hooks=PipelineHooks(after_llm={"on_sentence": rewrite}))
    async with call_simulator(agent) as caller:
        await ask(caller)
        await caller.at(4.0)
        await caller.speaks("Stop", seconds=0.5)
        first = await caller.heard(0)
        await caller.hears()
    assert first.interrupted
    assert first.text.startswith("We open at eight thirty.")
    assert first.text != "We open at eight thirty. We close at midnight on Sundays only."
    assert caller.dialogue[1] == ("assistant", first.text)


async def test_on_message_reply_passes_hooks_from_after_llm(call_simulator: CallSimulator) -> None:
    """An on_message reply passes through every hook from after_llm on."""
    events: list[dict[str, Any]] = []
    seen: list[str] = []

    def see(name: str, change: Any = None) -> Any:
        def hook(value: Any) -> Any:
            seen.append(name)
            return value if change is None else change(value)

        return hook

    async def on_message(event: dict[str, Any]) -> str:
        events.append(event)
        return "**Nine** to five."

    hooks = PipelineHooks(
        after_transcribe=see("after_transcribe", str.upper),
        before_llm=see("before_llm"),
        after_llm={"on_chunk": see("on_chunk"), "on_sentence": see("on_sentence"), "on_response": see("on_response")},
        before_synthesize=see("before_synthesize", lambda text: text.replace("five", "six")),
    )
    guard = {"name": "g", "check": lambda text: seen.append("guardrail") or "**" in text}
    agent = agent_of(llm=None, hooks=hooks, text_transforms=[filter_for_tts], guardrails=[guard])
    async with call_simulator(agent, on_message=on_message) as caller:
        await ask(caller)
        await caller.hears()
    assert seen == [
        "after_transcribe", "on_chunk", "on_response", "on_sentence", "guardrail", "before_synthesize",
    ]  # fmt: skip
    assert [(event["text"], event["history"]) for event in events] == [("YOUR HOURS?", [])]
    assert caller.dialogue == [("user", "YOUR HOURS?"), ("assistant", "Nine to six.")]


# The agent's audio ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["before_synthesize", "before_tts"])
async def test_before_synthesize_rewrites_sentence_or_skips_it(call_simulator: CallSimulator, name: str) -> None:
    """The before_synthesize hook rewrites a sentence, and None skips it."""

    def rewrite(text: str, ctx: HookContext) -> str | None:
        return None if "nine" in text else text.replace("five", "17:00")

    caller, _ = await answered(call_simulator, PipelineHooks(**{name: rewrite}))
    assert caller.dialogue[1] == ("assistant", "We close at 17:00.")


@pytest.mark.parametrize("name", ["after_tts", "after_synthesize"])
@pytest.mark.parametrize("pcm_voice", [True, False])
async def test_after_synthesize_receives_audio_with_its_sentence(
    call_simulator: CallSimulator, name: str, pcm_voice: bool
) -> None:
    """The after_synthesize hook receives the agent's audio together with its sentence."""
    seen: list[tuple[int, str]] = []

    def hook(pcm: bytes, text: str, ctx: HookContext) -> bytes:
        seen.append((len(pcm), text))
        return pcm

    tts = ScriptedTTS(emits=PCM16_8K) if pcm_voice else ScriptedTTS()
    caller, _ = await answered(call_simulator, PipelineHooks(**{name: hook}), tts=tts)
    lengths = {text: sum(length for length, of in seen if of == text) for _, text in seen}
    assert list(lengths) == ["We open at nine.", "We close at five."]
    assert sum(lengths.values()) / 2 / 8000 == pytest.approx(
        caller.payloads("agent_speech_ended")[0]["speech_duration_ms"] / 1000
    )
    assert caller.dialogue[1] == ("assistant", HOURS)


async def test_after_tts_runs_before_after_synthesize(
    call_simulator: CallSimulator,
) -> None:
    """The after_tts hook runs before after_synthesize, and the caller hears the audio that it returns."""
    hooks = PipelineHooks(
        after_tts=lambda pcm: bytes(len(pcm)),
        after_synthesize=lambda pcm: pcm if not any(pcm) else None,
    )
    caller, _ = await answered(call_simulator, hooks)
    sent = b"".join(arrival.audio for arrival in caller.carrier.arrivals)
    assert sent
    assert set(sent) == {g711.SILENCE_BYTE}


@pytest.mark.parametrize("nothing", [None, b""])
async def test_audio_discarded_by_hook_is_not_heard(call_simulator: CallSimulator, nothing: bytes | None) -> None:
    """The caller does not hear audio that a hook discards, and a sentence without audio counts as unsaid."""
    for dropped, kept in (("nine", "We close at five."), ("five", "We open at nine.")):
        hooks = PipelineHooks(after_synthesize=lambda pcm, text, drop=dropped: nothing if drop in text else pcm)
        caller, _ = await answered(call_simulator, hooks)
        assert sound_of_agent(caller) == kept
        assert caller.dialogue[1] == ("assistant", kept)
    silent, _ = await answered_silently(call_simulator, PipelineHooks(after_tts=lambda pcm: None))
    assert not silent.times("agent_speech_started")
    assert silent.dialogue == [("user", "Your hours?")]


async def test_sentence_counts_despite_discarded_first_audio(call_simulator: CallSimulator) -> None:
    """A sentence still counts as said if a hook discards its first audio."""
    count = 0

    def drop_first(pcm: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return None if count == 1 else pcm

    caller, _ = await answered(call_simulator, PipelineHooks(after_tts=drop_first))
    assert caller.dialogue[1] == ("assistant", HOURS)


async def test_stretched_audio_keeps_heard_text_exact(call_simulator: CallSimulator) -> None:
    """Audio that after_tts makes twice as long leaves half as many words heard at the same interruption."""

    async def heard(hook: Any) -> Any:
        agent = agent_of(
            "One two three four five six seven eight nine ten.", "Good.", hooks=PipelineHooks(after_tts=hook)
        )
        async with call_simulator(agent) as caller:
            await ask(caller)
            await caller.at(3.6)
            await caller.speaks("Stop", seconds=0.5)
            await caller.heard(1)
        return len(caller.dialogue[1][1].split())

    twice = await heard(lambda pcm: bytes(len(pcm) * 2))
    once = await heard(lambda pcm: bytes(len(pcm)))
    assert (once, twice) == (4, 2)


# The application's own texts ------------------------------------------------------------------------------------------
async def test_greeting_passes_transforms_and_tts_hooks_only(
    call_simulator: CallSimulator,
) -> None:
    """A greeting passes the text transforms and the TTS hooks, and it skips the hooks that judge an LLM."""
    seen: list[str] = []
    hooks = PipelineHooks(
        after_transcribe=lambda text: seen.append("after_transcribe"),
        before_llm=lambda messages: seen.append("before_llm"),
        after_llm={
            "on_chunk": lambda chunk: seen.append("x"),
            "on_sentence": lambda text: "",
            "on_response": str.upper,
        },
        before_synthesize=lambda text: text + " Welcome.",
    )
    options: dict[str, Any] = {
        "hooks": hooks,
        "text_transforms": [filter_for_tts],
        "guardrails": [{"name": "g", "blocked_terms": ["hello"]}],
    }
    async with call_simulator(agent_of(first_message="*Hello.*", **options)) as caller:
        assert (await caller.hears()).text == "Hello. Welcome."
    assert seen == []


# Facts and overrides --------------------------------------------------------------------------------------------------
async def test_each_hooks_time_is_an_internal_event(call_simulator: CallSimulator, witness: Witness) -> None:
    """Each run of a hook makes one internal event with the hook's name and its seconds."""

    async def slowly(text: str) -> str:
        await trio.sleep(0.2)
        return text

    hooks = PipelineHooks(before_stt=lambda pcm: pcm, after_llm={"on_sentence": slowly})
    await answered(partial(call_simulator, seams=witness.seams), hooks)
    called = witness.of(HookCalled)
    assert {hook.name for hook in called} == {"before_stt", "after_llm.on_sentence"}
    slow = [hook.seconds for hook in called if hook.name == "after_llm.on_sentence"]
    assert slow == pytest.approx([0.2, 0.2])


async def test_vetoes_and_blocked_sentences_are_internal_events(
    call_simulator: CallSimulator, witness: Witness
) -> None:
    """A vetoed turn and a blocked sentence each make an internal event with their reply and turn."""
    hooks = PipelineHooks(after_transcribe=lambda text: None if "robot" in text else text)
    guards = [{"name": "hours", "blocked_terms": ["nine"]}]
    async with call_simulator(agent_of(HOURS, hooks=hooks, guardrails=guards), seams=witness.seams) as caller:
        await caller.speaks("Stupid robot", seconds=1.0)
        await caller.waits(1.0)
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.hears()
    events = [event for event in witness.seen if isinstance(event, TurnVetoed | LlmStarted | SentenceBlocked)]
    first, second = [event.reply for event in events[:2]]
    assert events == [TurnVetoed(first, 1), LlmStarted(second, 2), SentenceBlocked(second, 2, "hours")]


async def test_agent_language_selects_sentence_abbreviations(
    call_simulator: CallSimulator,
) -> None:
    """The agent's language selects the abbreviations at which the call does not split an answer."""
    sentences: dict[str, list[str]] = {"en": [], "de": []}
    for language, seen in sentences.items():
        hooks = PipelineHooks(before_tts=lambda text, seen=seen: seen.append(text) or text)
        llm = ScriptedLLM(["Der 3. Oktober ist ein freier Tag in ganz Deutschland. Wir sehen uns danach wieder."])
        await answered(call_simulator, hooks, llm=llm, language=language)
    assert [len(seen) for seen in sentences.values()] == [3, 2]


async def test_the_pages_example_hooks_work_with_one_argument(call_simulator: CallSimulator) -> None:
    """The example hooks of the hooks page work with one argument, without the context."""

    async def async_redact_pii(sentence: str) -> str:
        await trio.sleep(0.05)
        return sentence.replace("nine", "[time]")

    async def async_validate(text: str) -> str:
        await trio.sleep(0.5)
        return text + " Goodbye."

    hooks = PipelineHooks(
        before_send_to_stt=lambda pcm: pcm,
        after_transcribe=lambda text: text,
        before_llm=lambda messages: messages,
        after_llm={
            "on_chunk": lambda chunk: chunk.replace("um", ""),
            "on_sentence": async_redact_pii,
            "on_response": async_validate,
        },
        before_synthesize=lambda sentence: sentence,
        after_synthesize=lambda chunk: chunk,
    )
    caller, _ = await answered(call_simulator, hooks, "We open at um nine. We close at five.")
    assert caller.dialogue[1] == ("assistant", "We open at [time]. We close at five. Goodbye.")


async def test_on_call_start_hooks_apply_only_to_call(call_simulator: CallSimulator) -> None:
    """Hooks that on_call_start gives apply to that call, and the next call has the agent's own."""
    phone, calls = Patter(), []
    agent = agent_of(HOURS, hooks=PipelineHooks(before_synthesize=lambda text: text.replace("nine", "ten")))

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any] | None:
        calls.append(event["call_id"])
        if len(calls) > 1:
            return None
        return {"hooks": PipelineHooks(before_synthesize=str.upper), "text_transforms": [lambda text: text[:-1]]}

    heard = []
    for _ in range(2):
        async with call_simulator(agent, phone=phone, on_call_start=on_call_start) as caller:
            await ask(caller)
            heard.append((await caller.hears()).text)
    assert heard == ["WE OPEN AT NINE WE CLOSE AT FIVE", "We open at ten. We close at five."]


async def test_invalid_hooks_override_warns_and_keeps_hooks(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid hooks override causes a warning, and the agent's own hooks stay in force."""
    agent = agent_of(HOURS, hooks=PipelineHooks(before_synthesize=str.upper))
    async with call_simulator(agent, on_call_start=lambda event: {"hooks": {"before_synthesize": None}}) as caller:
        await ask(caller)
        await caller.hears()
    assert caller.dialogue[1] == ("assistant", HOURS.upper())
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "hooks must be a PipelineHooks, got dict" in record.message


async def test_concurrent_calls_share_only_their_hooks(call_simulator: CallSimulator) -> None:
    """Two concurrent calls share their hooks and nothing else."""
    seen: set[tuple[str, str]] = set()
    agent = agent_of(
        HOURS, hooks=PipelineHooks(after_transcribe=lambda text, ctx: seen.add((ctx.call_id, text)) or text)
    )
    async with call_simulator(agent) as one, call_simulator(agent) as two:
        await one.speaks("Your hours?", seconds=1.0, wait=False)
        await two.speaks("Your prices?", seconds=1.0)
        await one.heard(0)
        await two.heard(0)
        assert seen == {(one.carrier.call_id, "Your hours?"), (two.carrier.call_id, "Your prices?")}
    assert (transcripts_of(one, "user"), transcripts_of(two, "user")) == (["Your hours?"], ["Your prices?"])

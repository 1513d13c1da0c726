"""Answers without a word, speech without sound, and what providers of the application's own raise."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from patter_trio import Fallback, tool
from patter_trio.abc import LanguageModel, Message, SpeechChunk, TextToSpeech, TextToSpeechSession, ToolCall
from patter_trio.errors import AnswerCut
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from tests.kit.call import SORRY, Backend, agent_of, transcripts_of
from tests.kit.depth import few

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

NOTHING = ["", "\n\n", "   ", "...", "…", "***", "😊", "¿?"]
NO_WORD = "gave an answer without a word"
AGAIN = "and is tried once more"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log, without the call's id."""
    return [record.getMessage().split(": ", 1)[-1] for record in caplog.records if record.name == "patter_trio.call"]


# A model --------------------------------------------------------------------------------------------------------------
@pytest.mark.pipeline("the scripted engine has a sound for each mark")
@pytest.mark.parametrize("nothing", NOTHING)
async def test_answer_of_nothing_is_asked_again(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, nothing: str
) -> None:
    """A model that answers without a word is asked once more; the caller hears the second answer at once."""
    texts = [nothing, "We open at nine."]
    llm = ScriptedLLM(lambda _: texts.pop(0))
    async with call_simulator(agent_of(llm=llm)) as caller:
        await caller.speaks("When do you open?", seconds=0.5)
        answer = await caller.hears()
    assert (answer.text, len(llm.requests)) == ("We open at nine.", 2)
    assert answer.started < 1.0 + 2 * 0.4 + 0.2 + 0.5
    assert lines(caplog) == [f"scripted {NO_WORD}, {AGAIN}"]


async def test_nothing_twice_is_an_apology(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A model that twice answers nothing fails the reply: the caller hears the apology, and the call goes on."""
    texts = ["", "\n", "Yes."]
    async with call_simulator(backend.agent_of(llm=ScriptedLLM(lambda _: texts.pop(0)))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == SORRY
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    assert caller.outcome == "caller_hung_up"
    assert lines(caplog) == [
        f"scripted {NO_WORD}, {AGAIN}",
        f"a reply failed: scripted {NO_WORD}",
    ]


@pytest.mark.pipeline("an engine has no fallback")
async def test_next_of_fallback_answers_for_nothing(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A fallback asks the first LLM again and then the next; the caller hears its answer."""
    first, second = ScriptedLLM([""], model="first"), ScriptedLLM(["We open at nine."], model="second")
    async with call_simulator(agent_of(llm=Fallback(first, second))) as caller:
        await caller.speaks("When do you open?", seconds=0.5)
        assert (await caller.hears()).text == "We open at nine."
    assert (len(first.requests), len(second.requests), len(caplog.records)) == (2, 1, 2)


@pytest.mark.pipeline("an engine has no fallback")
@pytest.mark.parametrize("broken", [{"fail_after": 0}, {"hang_after": 0}])
async def test_failed_fallback_apologises(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, broken: dict[str, Any]
) -> None:
    """If all LLMs of a fallback fail or hang, the caller hears the apology within 15 s, and the call goes on."""
    models = [ScriptedLLM(["Yes."], model=f"{number}", **broken) for number in range(2)]
    async with call_simulator(agent_of(llm=Fallback(*models))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        apology = await caller.hears()
        assert apology.text == SORRY
        assert apology.started <= 1.0 + 15.0 + 0.2
    assert "every provider failed" in caplog.text
    assert caller.outcome == "caller_hung_up"


@tool
async def look_up(name: str) -> str:
    """Look up a guest."""
    return "room 12"


CALL = tool_call("look_up", name="Miller")


@pytest.mark.parametrize("first", [[CALL], ["Let me see.", CALL]])
async def test_nothing_after_tool_is_an_apology(
    call_simulator: CallSimulator, backend: Backend, first: list[str | ToolCall]
) -> None:
    """A model that says nothing after its tool is not asked again: the caller hears what came before, and sorry."""
    llm = ScriptedLLM([first, ""])
    async with call_simulator(backend.agent_of(llm=llm, tools=[look_up])) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        await caller.waits(12.0)
    heard = [*(text for text in first if isinstance(text, str)), SORRY]
    assert transcripts_of(caller, "assistant") == heard
    assert len(llm.requests) == 2
    assert len(caller.payloads("tool_call_completed")) == 1


async def test_nothing_before_tool_is_asked_again(call_simulator: CallSimulator, backend: Backend) -> None:
    """With tools, too, a first answer of nothing is asked for once more; no tool runs twice."""
    answers: list[Any] = ["", [CALL], "In room 12."]
    llm = ScriptedLLM(lambda _: answers.pop(0))
    async with call_simulator(backend.agent_of(llm=llm, tools=[look_up])) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        assert (await caller.hears()).text == "In room 12."
    assert len(caller.payloads("tool_call_completed")) == 1


async def test_ten_rounds_of_tools_end_with_words(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A model that only ever calls tools ends with the apology, not with silence."""
    async with call_simulator(backend.agent_of(llm=ScriptedLLM([[CALL]]), tools=[look_up])) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        assert (await caller.hears()).text == SORRY
    assert len(caller.payloads("tool_call_completed")) == 9
    assert lines(caplog)[-1] == f"a reply failed: scripted {NO_WORD}"


@pytest.mark.pipeline("on_message answers in place of an LLM")
@pytest.mark.parametrize("nothing", few([None, *NOTHING], 2))
async def test_on_message_may_say_nothing(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, nothing: str | None
) -> None:
    """Nothing from on_message is silence, not a failure: it is asked once, and nothing is logged."""
    asked: list[str] = []

    def on_message(event: dict[str, Any]) -> str | None:
        asked.append(event["text"])
        return nothing

    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(20.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
    assert (asked, transcripts_of(caller, "assistant"), caplog.records) == (["Hello"], [], [])


# A voice --------------------------------------------------------------------------------------------------------------
class Mute(TextToSpeech):
    """A TTS that speaks the first ``mute`` texts without sound, or only the first ``sounding`` sentences of each."""

    def __init__(self, mute: int = 0, sounding: int = 1000) -> None:
        self.provider, self.model = "mute", "mute"
        self.mute, self.sounding = mute, sounding
        self.texts: list[str] = []
        self.inner = ScriptedTTS()

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with self.inner.open(language=language) as session:
            yield _MuteSession(self, session)


class _MuteSession(TextToSpeechSession):
    def __init__(self, script: Mute, inner: TextToSpeechSession) -> None:
        self._script, self._inner = script, inner

    @asynccontextmanager
    async def speak(self, sentences: Any) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        self._script.texts.append("")
        silent = len(self._script.texts) <= self._script.mute
        number = 0

        async def read() -> AsyncIterator[str]:
            nonlocal number
            async for sentence in sentences:
                self._script.texts[-1] += sentence
                number += 1
                if not silent and number <= self._script.sounding:
                    yield sentence

        async with self._inner.speak(read()) as chunks:
            yield chunks


@pytest.mark.pipeline("an engine is its own voice")
async def test_mute_speech_is_spoken_again(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A TTS that ends without a sample is given the whole text once more."""
    tts = Mute(mute=1)
    async with call_simulator(agent_of("Yes, we are. Until nine.", tts=tts)) as caller:
        await caller.speaks("Are you open?", seconds=0.5)
        assert (await caller.hears()).text == "Yes, we are. Until nine."
    assert tts.texts == ["Yes, we are.Until nine."] * 2
    assert lines(caplog) == [f"the TTS gave no audio for a text that can be spoken, {AGAIN}"]


@pytest.mark.pipeline("an engine is its own voice")
async def test_voice_that_is_mute_twice_is_an_apology(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A TTS that is mute twice fails the reply; the apology is heard, and nothing of the answer is in the history."""
    async with call_simulator(agent_of("Yes, we are.", tts=Mute(mute=2))) as caller:
        await caller.speaks("Are you open?", seconds=0.5)
        assert (await caller.hears()).text == SORRY
    assert transcripts_of(caller, "assistant") == [SORRY]
    assert lines(caplog)[1:] == ["a reply failed: the TTS gave no audio for a text that can be spoken"]


@pytest.mark.pipeline("an engine is its own voice")
async def test_next_voice_of_fallback_speaks(call_simulator: CallSimulator) -> None:
    """The next TTS of a fallback speaks the text for which the first one twice gave no audio."""
    first = Mute(mute=1000)
    tts = Fallback(first, ScriptedTTS(model="second"))
    async with call_simulator(agent_of("Yes, we are.", tts=tts)) as caller:
        await caller.speaks("Are you open?", seconds=0.5)
        assert (await caller.hears()).text == "Yes, we are."
    assert len(first.texts) == 2


@pytest.mark.pipeline("an engine is its own voice")
async def test_hanging_voice_is_asked_again(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A TTS that hangs before its first audio is given the text once more after 6 s."""

    class Hanging(Mute):
        @asynccontextmanager
        async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
            async with self.inner.open(language=language) as session:
                yield _Hanging(self, session)

    class _Hanging(TextToSpeechSession):
        def __init__(self, script: Mute, inner: TextToSpeechSession) -> None:
            self._script, self._inner = script, inner

        @asynccontextmanager
        async def speak(self, sentences: Any) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
            self._script.texts.append("")
            if len(self._script.texts) == 1:
                await anext(aiter(sentences))
                await trio.sleep_forever()
            async with self._inner.speak(sentences) as chunks:
                yield chunks

    async with call_simulator(agent_of("Yes, we are. Until nine.", tts=Hanging())) as caller:
        await caller.speaks("Are you open?", seconds=0.5)
        answer = await caller.hears()
    assert answer.text == "Yes, we are. Until nine."
    assert 1.0 + 6.0 < answer.started < 1.0 + 8.0
    assert lines(caplog) == [f"the TTS gave no result within 6 s, {AGAIN}"]


@pytest.mark.pipeline("an engine is its own voice")
@pytest.mark.parametrize("sounding", [1, 2])
async def test_sentences_without_sound_are_not_heard(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, sounding: int
) -> None:
    """A TTS that speaks only its first sentences: they alone are in the history, and the caller hears the apology."""
    sentences = ["Yes, we are open now.", "Your order number is seventy one.", "Thank you very much for calling."]
    async with call_simulator(agent_of(" ".join(sentences), tts=Mute(sounding=sounding))) as caller:
        await caller.speaks("Are you open?", seconds=0.5)
        await caller.waits(12.0)
    assert transcripts_of(caller, "assistant") == [" ".join(sentences[:sounding]), SORRY]
    [line] = lines(caplog)
    assert line == f"a reply failed: the TTS gave no audio for the last {3 - sounding} of 3 sentences"


async def test_speechless_engine_apologises(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """An engine, or a TTS, that never makes a sound is logged, and does not end the call."""
    async with call_simulator(backend.agent_of("Yes.", tts=ScriptedTTS(mute=True))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(20.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
    assert transcripts_of(caller, "assistant") == []
    assert sum("a reply failed: " in line for line in lines(caplog)) == 2  # of the answer, and of the apology


# Pieces without a sound of their own ----------------------------------------------------------------------------------
@pytest.mark.pipeline("an engine is its own voice")
@pytest.mark.parametrize(
    ("reply", "given"),
    [
        ("We open at nine. 😊", ["We open at nine."]),
        ("Goodbye! …", ["Goodbye!"]),
        ("*** Well then. ***", ["*** Well then."]),
        ("One.\n---\nTwo.", ["One.", "--- Two."]),
        ("7", ["7"]),
        ("はい。", ["はい。"]),
    ],
)
async def test_voice_gets_no_piece_without_letter(call_simulator: CallSimulator, reply: str, given: list[str]) -> None:
    """A piece without a letter or a digit is not given to the TTS."""
    tts = Mute()
    async with call_simulator(agent_of(reply, tts=tts, text_transforms=[])) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    assert tts.texts == ["".join(given)]


# Providers of the application's own -----------------------------------------------------------------------------------
class Own(LanguageModel):
    """A language model of the application's own, which raises at one place."""

    provider = model = "own"
    takes_tools = False

    def __init__(self, place: str, error: BaseException) -> None:
        self.place, self.error, self.asked = place, error, 0

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message], **_: Any) -> AsyncIterator[AsyncIterator[str]]:
        self.asked += 1
        if self.asked == 1 and self.place == "open":
            raise self.error
        yield self.pieces()
        if self.asked == 1 and self.place == "close":
            raise self.error

    async def pieces(self) -> AsyncIterator[str]:
        if self.asked == 1 and self.place == "first":
            raise self.error
        yield "We open at nine. We "
        if self.asked == 1 and self.place == "middle":
            raise self.error
        yield "close at ten."


@pytest.mark.parametrize(
    "error", few([KeyError("choices"), ValueError("no"), ExceptionGroup("", [OSError("gone")])], 1), ids=repr
)
@pytest.mark.parametrize(
    ("place", "heard"),
    [
        ("open", [SORRY]),
        ("first", [SORRY]),
        ("middle", ["We open at nine.", SORRY]),
        ("close", ["We open at nine. We close at ten."]),
    ],
)
@pytest.mark.pipeline("an engine asks its model in a task of its own")
async def test_model_of_own_may_raise_anything(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, place: str, heard: list[str], error: Exception
) -> None:
    """An LLM of the application's own that raises fails its reply alone, with one line and its traceback."""
    async with call_simulator(agent_of(llm=Own(place, error))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(6.0)
        assert transcripts_of(caller, "assistant") == heard
        await caller.speaks("Again", seconds=0.5)
        assert (await caller.hears()).text == "We open at nine. We close at ten."
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]
    [record] = [record for record in caplog.records if record.name == "patter_trio.call"]
    assert f"own raised {type(error).__name__}" in record.getMessage()
    if place != "close":
        assert record.exc_info is not None


async def test_stream_that_is_no_context_fails_reply(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """An LLM whose ``stream`` returns something else fails the reply, not the call."""

    class Odd(Own):
        def stream(self, messages: Sequence[Message], **_: Any) -> Any:
            return 7

    async with call_simulator(agent_of(llm=Odd("", KeyError()))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == SORRY
    assert caller.outcome == "caller_hung_up"


@pytest.mark.pipeline("an engine is its own voice")
async def test_voice_of_own_may_raise_anything(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A TTS of the application's own that raises fails its reply alone."""

    class Broken(Mute):
        @asynccontextmanager
        async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
            async with self.inner.open(language=language) as session:
                yield _Broken(self, session)

    class _Broken(_MuteSession):
        @asynccontextmanager
        async def speak(self, sentences: Any) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
            self._script.texts.append("")
            if len(self._script.texts) == 1:
                raise ZeroDivisionError
            async with self._inner.speak(sentences) as chunks:
                yield chunks

    async with call_simulator(agent_of("Yes.", tts=Broken())) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == SORRY
    assert caller.outcome == "caller_hung_up"
    assert "the TTS raised ZeroDivisionError" in caplog.text


# Answers that the vendor ends early -----------------------------------------------------------------------------------
@pytest.mark.pipeline("an engine says by itself how its answer ended")
@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("We open at nine. We close at", ["We open at nine."]),
        ("We open at nine. We close at ten.", ["We open at nine. We close at ten."]),
        ("We open at", [SORRY]),
    ],
)
async def test_answer_cut_by_vendor_ends_at_sentence(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, text: str, heard: list[str]
) -> None:
    """What is spoken of an answer that the vendor cut off ends at a sentence, without an apology, and is logged."""

    class Cut(ScriptedLLM):
        async def _tokens(self, reply: Any, asked: float) -> Any:
            for number, word in enumerate(text.split()):
                await trio.sleep(0.05)
                yield f" {word}" if number else word
            raise AnswerCut("the model ended its answer early: length")

    async with call_simulator(agent_of(llm=Cut([""]))) as caller:
        await caller.speaks("When?", seconds=0.5)
        await caller.waits(8.0)
    assert transcripts_of(caller, "assistant") == heard
    [line] = lines(caplog)
    assert "the model ended its answer early: length" in line

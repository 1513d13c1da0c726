"""Runs the hooks of one call, each within its deadline, so that a faulty hook cannot harm the call.

If a hook raises, returns the wrong type or does not return, one log line says so, and its input passes unchanged; only
a guardrail that fails blocks. A hook runs in the task through which its data passes, so that a slow hook delays that
data and nothing else. Where no hook is set, nothing is decoded or awaited.
"""

import copy
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
import trio

from patter_trio.abc import CallInfo, Message, SpeechChunk, Transcript
from patter_trio.agent.agent import Agent
from patter_trio.agent.guardrails import Guardrail
from patter_trio.agent.hooks import Hook, HookContext
from patter_trio.audio import g711
from patter_trio.audio.formats import MULAW_8K, PCM16_8K, AudioFormat
from patter_trio.conversation.text import is_sayable
from patter_trio.metrics.internal_events import EmitFact, HookCalled
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of

EmitBlocked = Callable[[str], None]
"""Reports that the guardrail of that name blocked a sentence of the reply."""
Expected = Callable[[object], str]
"""Checks a hook's result: returns a description of what was expected, or an empty string if the result is valid."""

_PASSES: Final = "the original passes"
"""The consequence in the log where a hook fails."""
_BLOCKS: Final = "blocked"
"""The consequence where a guardrail fails: a sentence that could not be checked is not spoken."""

_log = logging.getLogger("patter_trio.events")


class _HookFailed(Exception):
    """A hook returned no usable result; its failure is logged."""


class HookedCall(Protocol):
    """The facts of a call that its hooks can read."""

    @property
    def info(self) -> CallInfo:
        """The facts of the call."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far; copies."""


def hook_runner_of(agent: Agent, call: HookedCall, emit_fact: EmitFact) -> "HookRunner | None":
    """Return the hooks of a call's agent; None if it has none."""
    # None instead of an empty runner: then the audio path of such a call has no hook to await and nothing to decode.
    if agent.hooks is None and not agent.transforms and not agent.guardrails:
        return None
    return HookRunner(agent, call, emit_fact)


class HookRunner:
    """The hooks, text transforms and guardrails of one call's agent."""

    def __init__(self, agent: Agent, call: HookedCall, emit_fact: EmitFact) -> None:
        self._hooks: Mapping[str, Hook] = agent.hooks.compiled if agent.hooks is not None else {}
        self._transforms = agent.transforms
        self._guardrails = agent.guardrails
        self._call = call
        self._emit_fact = emit_fact
        self._reported: set[str] = set()
        self._slow_ones: set[str] = set()
        self._off: set[str] = set()

    def __repr__(self) -> str:
        return (
            f"<HookRunner of {self._call.info.call_id}: {', '.join(self._hooks) or 'no hooks'}, off: "
            f"{sorted(self._off)}>"
        )

    def given(self, *names: str) -> tuple[Hook, ...]:
        """Return those of the named hooks that the agent has."""
        return tuple(self._hooks[name] for name in names if name in self._hooks)

    def _context(self) -> HookContext:
        call = self._call
        return HookContext(call.info.call_id, call.info.caller, call.info.callee, tuple(call.history))

    # Calling one hook -------------------------------------------------------------------------------------------------
    async def transform(self, hook: Hook, expected: Expected, value: Any, *more: object, copied: bool = False) -> Any:
        """Return a hook's result for a value, or the value itself if the hook fails.

        Args:
            hook: the hook.
            expected: checks the result's type.
            value: the hook's first argument, which is also returned if the hook fails.
            more: the hook's further arguments, as in its tier.
            copied: give the hook a deep copy, so that a hook that fails halfway leaves the original unchanged.
        """
        try:
            return await self._ask(hook, expected, (copy.deepcopy(value) if copied else value, *more), _PASSES)
        except _HookFailed:
            # Fails open: a hook improves a call, and a call without the improvement is better than silence.
            return value

    async def check(self, hook: Hook, text: str) -> bool:
        """Return True if a hook blocks a text; a hook that fails blocks it, too."""
        try:
            return bool(await self._ask(hook, _anything, (text,), _BLOCKS))
        except _HookFailed:
            # Fails closed: the sentence that could not be checked may be the one that must not be heard.
            return True

    async def _ask(self, hook: Hook, expected: Expected, values: tuple[object, ...], consequence: str) -> Any:
        """Return a hook's result; log a failure, with its ``consequence``.

        Raises:
            _HookFailed: the hook raised, was too slow or gave the wrong type, or is disabled for this call.
        """
        if hook.name in self._off:
            raise _HookFailed
        # The context is made only for a function that takes it: it copies up to 200 entries of the history.
        positional, keywords = hook.arguments(values, self._context)
        began = trio.current_time()
        answer, problem, held = None, "", 0.0
        cause: BaseException | None = None
        # The deadline only ends an async hook; a plain function blocks the loop, and call_sync reports that.
        with trio.move_on_after(hook.tier.deadline) as scope:
            try:
                answer = invoke.call_sync(hook.function, *positional, **keywords)
                held = trio.current_time() - began
                if inspect.isawaitable(answer):
                    # In the task through which the data passes, so that the order of the data holds.
                    answer = await invoke.await_result(hook.function, answer)
            except invoke.ApplicationError as error:
                # Any exception of the application, as invoke translates it; Cancelled passes,
                # so a cut reply ends its hooks.
                problem, cause = str(error), error.__cause__
        took = trio.current_time() - began
        self._emit_fact(HookCalled(hook.name, took))  # also for a failed call: its time was lost all the same
        if scope.cancelled_caught:
            problem = f"{name_of(hook.function)} did not return within {hook.tier.deadline:g} s"
        elif not problem and (wanted := expected(answer)):
            # Checked here, where the log can name the function; further down, a wrong type
            # would look like a bug of ours.
            problem = f"{name_of(hook.function)} must give {wanted}, not {type(answer).__name__}"
        if problem:
            self._complain(hook, problem, consequence, cause, for_good=hook.tier.often and scope.cancelled_caught)
            raise _HookFailed
        if took > hook.tier.budget and held <= invoke.MAX_BLOCKING_S:  # else call_sync has reported it
            self._slow(hook, took)
        return answer

    def _complain(self, hook: Hook, problem: str, then: str, cause: BaseException | None, *, for_good: bool) -> None:
        """Log a hook's failure; of one that is called many times a second, only the first, and that it is disabled."""
        if for_good:
            # Waiting for the deadline with every frame would hold up the audio for the rest of the call.
            self._off.add(hook.name)
            then += ", and it is disabled for this call"
        elif hook.tier.often and hook.name in self._reported:
            return
        self._reported.add(hook.name)
        _log.warning("call %s: hook %s: %s; %s", self._call.info.call_id, hook.name, problem, then, exc_info=cause)

    def _slow(self, hook: Hook, seconds: float) -> None:
        # Once per call: a hook that is slow with every frame would write fifty lines a second.
        if hook.name in self._slow_ones:
            return
        self._slow_ones.add(hook.name)
        _log.warning(
            "call %s: hook %s: %s took %.0f ms; its budget is %g ms",
            self._call.info.call_id,
            hook.name,
            name_of(hook.function),
            seconds * 1000,
            hook.tier.budget * 1000,
        )

    async def text(self, hooks: Iterable[Hook], text: str) -> str | None:
        """Pass a text through hooks; return None as soon as one of them returns None."""
        for hook in hooks:
            answer: str | None = await self.transform(hook, _text_or_none, text)
            if answer is None:
                return None
            text = answer
        return text

    # The caller's side ------------------------------------------------------------------------------------------------
    def incoming(self, accepts: AudioFormat) -> Callable[[bytes], Awaitable[bytes]] | None:
        """Return a function that passes the caller's mu-law audio through the hooks before the STT; None without any.

        Its result is at 8 kHz like its input: mu-law for an STT that accepts mu-law at 8 kHz, otherwise 16-bit samples.
        """
        hooks = self.given("before_send_to_stt", "before_stt")
        if not hooks:
            return None
        # Decided per session, not per frame: an STT that wants samples anyway gets the hooks'
        # samples without a mu-law round trip.
        as_pcm = accepts != MULAW_8K

        # Hooks get 16-bit samples. Audio that they leave unchanged goes on as the original mu-law, without re-encoding.

        async def through(mulaw: bytes) -> bytes:
            given = pcm = g711.to_pcm(mulaw)
            for hook in hooks:
                answer = await self.transform(hook, _pcm_of(len(given)), pcm)
                if not answer:  # None or no bytes: both drop it; silence in its place keeps the STT's clock right
                    return bytes(len(given)) if as_pcm else bytes([g711.SILENCE_BYTE]) * len(mulaw)
                pcm = bytes(answer)
            return pcm if as_pcm else mulaw if pcm == given else g711.from_pcm(pcm)

        return through

    async def result(self, transcript: Transcript) -> Transcript | None:
        """Pass an STT result through ``after_stt``; return None if it is to be ignored."""
        for hook in self.given("after_stt"):
            answer = await self.transform(hook, _words, transcript)
            if answer is None:  # a final result closes its segment, with or without words
                return attrs.evolve(transcript, text="") if transcript.final else None
            text = answer if isinstance(answer, str) else answer.text
            return attrs.evolve(transcript, text=text)
        return transcript

    async def transcribed(self, text: str) -> str:
        """Pass the words of a turn through ``after_transcribe``; an empty result vetoes the turn."""
        return (await self.text(self.given("after_transcribe"), text) or "").strip()

    async def asked(self, messages: Sequence[Message]) -> list[Message]:
        """Pass the messages for the LLM through ``before_llm``."""
        kept = list(messages)
        for hook in self.given("before_llm"):
            answer = await self.transform(hook, _messages_or_none, kept, copied=True)
            kept = kept if answer is None else list(answer)
        return kept

    # The agent's side -------------------------------------------------------------------------------------------------
    def of_reply(self, emits: AudioFormat, emit_blocked: EmitBlocked, *, generated: bool) -> "ReplyHooks":
        """Return the hooks for one reply; one that is not ``generated`` is the application's own text."""
        return ReplyHooks(self, emits, emit_blocked, generated=generated)

    async def rewritten(self, sentence: str) -> str:
        """Pass a sentence through the text transforms; an empty result drops it."""
        for hook in self._transforms:
            sentence = await self.transform(hook, _text, sentence)
        return sentence

    async def blocking(self, sentence: str) -> Guardrail | None:
        """Return the first guardrail that blocks a sentence."""
        # Terms before checks within a guardrail: they cost nothing, and a blocked sentence need not wait for the check.
        for guard in self._guardrails:
            if guard.names(sentence):
                return guard
            if guard.hook is not None and await self.check(guard.hook, sentence):
                return guard
        return None


class ReplyHooks:
    """The hooks of one reply. One that is not ``generated`` is the application's own text: greeting, ``say``, apology.

    Such a text passes the text transforms and the hooks around the TTS, but not those that check an LLM's output.
    """

    def __init__(
        self, hook_runner: HookRunner, emits: AudioFormat, emit_blocked: EmitBlocked, *, generated: bool
    ) -> None:
        self._transform = hook_runner.transform
        self._hook_runner = hook_runner
        self._emit_blocked = emit_blocked
        self._generated = generated
        self._whole = hook_runner.given("after_llm.on_response") if generated else ()
        self._chunk = hook_runner.given("after_llm.on_chunk") if generated else ()
        self._sentence = hook_runner.given("after_llm.on_sentence") if generated else ()
        self._spoken = hook_runner.given("before_synthesize", "before_tts")
        self._sound = hook_runner.given("after_tts", "after_synthesize")
        self._as_pcm = emits != MULAW_8K
        self._buffer: list[str] = []
        self._replaced: set[str] = set()
        self._text = ""  # the sentence to which the current audio belongs
        self._owed = ""  # its text, until a hook lets some of its audio pass

    @property
    def format(self) -> AudioFormat:
        """The format in which :meth:`audio` takes and gives audio; always at 8 kHz."""
        return PCM16_8K if self._as_pcm else MULAW_8K

    @property
    def touches_audio(self) -> bool:
        """True if the agent has a hook for the audio."""
        return bool(self._sound)

    async def piece(self, text: str) -> str:
        """Pass a piece of the answer through ``on_chunk``.

        Return "" if ``on_response`` needs the whole answer first.
        """
        for hook in self._chunk:
            text = await self._transform(hook, _text, text)
        if not self._whole:
            return text
        # The whole answer waits here: on_response may rewrite all of it, so nothing may have been spoken before.
        self._buffer.append(text)
        return ""

    async def rest(self) -> str:
        """Return the answer that was held back, passed through ``on_response``.

        Without text, the hook is not called.
        """
        if not self._buffer:
            return ""
        text, self._buffer = "".join(self._buffer), []
        for hook in self._whole:
            answer = await self._transform(hook, _text_or_none, text)
            text = text if answer is None else answer
        return text

    async def sentence(self, sentence: str) -> str:
        """Pass a sentence through every hook that rewrites or drops one; an empty result drops it."""
        # The guardrails check the text as the hooks and transforms before them have rewritten it.
        for hook in self._sentence:
            answer = await self._transform(hook, _text_or_none, sentence)
            sentence = sentence if answer is None else answer
        # Tested again after each step: a hook that dropped the sentence must not make a later one look at nothing.
        if sentence.strip():
            sentence = await self._hook_runner.rewritten(sentence)
        if sentence.strip() and self._generated:
            sentence = await self._guarded(sentence)
        if sentence.strip():
            sentence = await self._hook_runner.text(self._spoken, sentence) or ""
        return sentence.strip()

    async def _guarded(self, sentence: str) -> str:
        guard = await self._hook_runner.blocking(sentence)
        if guard is None:
            return sentence
        self._emit_blocked(guard.name)
        # Each guardrail's replacement is said once for each reply; further blocked sentences are dropped.
        if guard.name in self._replaced:
            return ""
        self._replaced.add(guard.name)
        return guard.replacement

    async def audio(self, chunk: SpeechChunk) -> SpeechChunk | None:
        """Pass audio through its hooks; return None if it is dropped.

        The first audio that is kept carries the sentence's text, so that a sentence whose audio is all dropped does not
        count as said.
        """
        if chunk.text:
            self._text = self._owed = chunk.text
        if chunk.audio:
            given = pcm = chunk.audio if self._as_pcm else g711.to_pcm(chunk.audio)
            for hook in self._sound:
                answer = await self._transform(hook, _pcm_of(), pcm, self._text)
                if not answer:  # None or no bytes: both drop the audio
                    return None
                pcm = bytes(answer)
            if pcm != given:
                # A hook may change the length (a tempo change): the word times move in proportion.
                stretch = len(pcm) / len(given)
                words = tuple(attrs.evolve(w, start=w.start * stretch, end=w.end * stretch) for w in chunk.words)
                chunk = attrs.evolve(chunk, audio=pcm if self._as_pcm else g711.from_pcm(pcm), words=words)
        text, self._owed = self._owed, ""
        return attrs.evolve(chunk, text=text)


# Expected results ---------------------------------------------------------------------------------------------
def _anything(answer: object) -> str:
    del answer
    return ""


def _text(answer: object) -> str:
    if not isinstance(answer, str):
        return "text"
    return "" if is_sayable(answer) else "text that can be encoded in UTF-8"


def _text_or_none(answer: object) -> str:
    if answer is None:
        return ""
    return _text(answer) if isinstance(answer, str) else "text or None"


def _words(answer: object) -> str:
    if answer is None:
        return ""
    text = answer.text if isinstance(answer, Transcript) else answer
    return _text(text) if isinstance(text, str) else "a Transcript, text or None"


def _messages_or_none(answer: object) -> str:
    if answer is None:
        return ""
    if isinstance(answer, list | tuple) and all(
        isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in answer
    ):
        return ""
    return "a list of messages (dicts with a role) or None"


def _pcm_of(length: int | None = None) -> Expected:
    """Expect 16-bit audio, of exactly ``length`` bytes unless that is None."""

    def wanted(answer: object) -> str:
        if answer is None:
            return ""
        # Through bytes(): the length of a memoryview counts its items, which need not be bytes.
        if not isinstance(answer, bytes | bytearray | memoryview) or len(bytes(answer)) % 2:
            return "16-bit audio (bytes) or None"
        # No bytes drop the audio, as None does.
        return (
            ""
            if length in (None, len(bytes(answer))) or not answer
            else f"as much audio as it got ({length} bytes) or None"
        )

    return wanted

"""The options of an agent: frozen, and checked when the agent is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import attrs

from patter_trio.abc import Engine, LanguageModel, SpeechToText, TextToSpeech, TurnDetector, VoiceActivity
from patter_trio.agent.dtmf import DEFAULT_KEYPAD, dtmf_of
from patter_trio.agent.guardrails import Guardrail, guardrails_of
from patter_trio.agent.hooks import Hook, PipelineHooks, hook_of
from patter_trio.agent.keypad import Keypad
from patter_trio.agent.language_models import AdaptedModel, language_model_of
from patter_trio.agent.menu import Menu
from patter_trio.agent.option_rules import (
    check_names,
    check_seconds,
    check_whole,
    check_words,
    instance_of,
    vad_of,
    variables_of,
)
from patter_trio.agent.tools import Tool, tools_of
from patter_trio.agent.transfer_tool import TransferTool, checked_failure
from patter_trio.audio.convert import rate_problem
from patter_trio.conversation.hidden_text import HiddenTextFilter
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.prompts import filled, filled_to_speak, phone_preamble, unknown_names
from patter_trio.conversation.text import SpeechFilter, TextFilter, filter_for_tts
from patter_trio.defaults import default_stt, default_tts
from patter_trio.errors import ConfigurationError, did_you_mean
from patter_trio.providers.other_names import other_names

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "app",
            "browser_phone",
            "dashboard",
            "dashboard_token",
            "drain_timeout",
            "handle_signals",
            "host",
            "max_calls",
            "max_lag",
            "on_call_end",
            "on_call_start",
            "on_dtmf",
            "on_message",
            "on_message_secret",
            "on_metrics",
            "on_transcript",
            "port",
            "record_to",
            "recording",
            "tunnel",
            "voicemail_message",
        ),
        "phone.serve(...)",
    ),
    **dict.fromkeys(
        ("allow_private_hosts", "carrier", "persist", "phone_number", "pricing", "webhook_url"), "Patter(...)"
    ),
    **{
        f"on_{edge}": f"the phone: phone.on_{edge} = ..."
        for edge in (
            "agent_speech_ended",
            "agent_speech_started",
            "audio_out",
            "llm_token",
            "user_speech_ended",
            "user_speech_eos",
            "user_speech_started",
        )
    },
}
"""Where options belong that are given to an agent by mistake."""

# Listed, not "all but": a new option must be thought about before it can change while audio flows.
OVERRIDABLE = frozenset(
    {
        "error_message",
        "first_message",
        "guardrails",
        "hooks",
        "language",
        "llm",
        "max_call_duration",
        "on_failure",
        "recording_notice",
        "silence_timeout",
        "stt",
        "system_prompt",
        "text_transforms",
        "tools",
        "tts",
        "variables",
        "voice",
    }
)
"""The options that ``on_call_start`` may change for one call.

The others (``vad``, ``turn_detector``, ``barge_in_*``, ``dtmf``, ``endpointing_ms``, ``user_away_timeout``) take effect
with the first audio frame, which may arrive before ``on_call_start`` has returned.
"""


# Judged: few callers speak that long without a breath. An engine hears the audio itself, and must answer at some point.
MAX_MONOLOGUE_S = 60.0
"""Seconds of voice without a pause after which an utterance for an engine ends. Without words from an STT, the machine
cannot distinguish speech from music."""
# Judged, each a little more than what the vendor itself waits: OpenAI's VAD ends a turn after 0.5 s of silence, its
# semantic detector after 8 s at most. This end is only for a vendor whose report is lost.
ENGINE_ENDPOINT_WAIT_S = {"vad_silence": 2.0, "semantic_turn_detector": 10.0}
"""Seconds of silence that end an utterance although the engine, which detects turns itself, has not reported the end.

The key is ``Engine.ends_turns``. The value is used for engines that do not state ``longest_silence``.
"""
PIPELINE_ONLY_OPTIONS = ("stt", "llm", "hooks", "text_transforms", "barge_in_min_words")
"""Options that act on the texts between STT, LLM and TTS. With an engine there are no such texts."""
ERROR_MESSAGE = "I am sorry, something went wrong. Could you say that again?"
"""The text spoken when a reply fails, unless the agent has its own ``error_message``."""
CHOICE_FAILED_MESSAGE = "I am sorry, something went wrong."
"""The same where a key of a menu fails; the prompt follows. The caller has said nothing that could be said again."""
TRANSFER_FAILED_MESSAGE = "I am sorry, nobody can take your call right now."
"""The same where a transfer fails."""
DEFAULT_TEXT_TRANSFORMS: tuple[Callable[[str], str], ...] = (filter_for_tts,)
"""The text transforms of an agent without any of its own: models write Markdown, whatever the prompt says."""
# Judged: longer than the calls of any desk, and short enough that a line which both sides have forgotten costs little.
MAX_CALL_DURATION_S: float | None = 3600.0
"""Seconds after which an agent hangs up, unless it has another ``max_call_duration``."""


def _transforms_of(given: Sequence[Callable[[str], str]] | None) -> tuple[Callable[[str], str], ...]:
    if given is None:
        return DEFAULT_TEXT_TRANSFORMS
    # Not any iterable: a text is one, and would be taken for a list of one-letter functions.
    if not isinstance(given, list | tuple):
        raise ConfigurationError(f"text_transforms must be a list of functions, got {type(given).__name__}: {given!r}")
    return tuple(given)


def _error_message_of(given: str | None) -> str:
    return ERROR_MESSAGE if given is None else given


def _inspected(agent: "Agent") -> tuple[Hook, ...]:
    # Inspected when the agent is made: a function with a wrong signature is an error then, not in the first call.
    return tuple(
        hook_of("text_transforms", function, label=f"text_transforms[{place}]")
        for place, function in enumerate(agent.text_transforms)
        # The stream is filtered already. Behind another one it may find new marks.
        if place > 0 or function is not filter_for_tts
    )


_optional = attrs.validators.optional


@other_names(
    means={
        "llm_error_message": "error_message",
        "disable_phone_preamble": lambda disabled: {"phone_preamble": not disabled},
    },
    no_effect={
        "provider": "it follows from engine=, or from stt=, llm= and tts=",
        "prewarm": "models are loaded and connections opened when the agent is served, in any case",
        "prewarm_first_message": "the first message is synthesised as soon as the call is connected",
        "aggressive_first_flush": "the first sentence of a reply is spoken as soon as it is known to be finished",
        "tool_call_preambles": "system_prompt= can ask the model to say what it is about to do",
        "realtime_gate_response_on_transcript": "an engine never waits for the transcript",
    },
    elsewhere=ELSEWHERE,
)
@attrs.frozen
class Agent:
    """A phone agent: its prompt, its providers and tools, and the rules for interruptions and silence.

    An agent never changes, so one agent can serve any number of calls at once. ``phone.agent(...)`` makes one, too.

    Args:
        system_prompt: the instructions for the LLM.
        engine: a speech-to-speech model that replaces ``stt``, ``llm`` and ``tts``; None: these three are used.
        stt: the speech-to-text provider; None: :class:`~patter_trio.WhisperSTT`, unless there is an ``engine``.
        tts: the text-to-speech provider; None: :class:`~patter_trio.PiperTTS`, unless there is an ``engine``. With an
            ``engine``, it speaks fixed texts, such as ``first_message``, word for word.
        llm: the language model, or an object with its method ``stream``; None: ``phone.serve(on_message=...)`` answers.
        vad: detects the caller's voice; None: :class:`~patter_trio.SileroVAD`.
        turn_detector: judges whether the caller has finished, which shortens the wait; None: silence alone decides.
        language: BCP 47 tag of the call's language, for STT and TTS.
        voice: the vendor's name or id of the voice for ``engine`` or, without one, for ``tts``; empty: the provider's
            own voice.
        first_message: spoken as soon as the call is connected; empty: the caller speaks first.
        recording_notice: spoken before ``first_message`` if ``serve`` records the call; the caller cannot interrupt it,
            and the recording begins when it was heard. Empty: the recording begins with the call.
        tools: the functions that the LLM may call: functions, :class:`~patter_trio.Tool`, or dicts of its arguments;
            see ``docs/tools.md``.
        variables: values for ``{name}`` in ``system_prompt``, ``first_message`` and ``recording_notice``, by name;
            None: nothing is replaced.
            A value loses control characters, and what is longer than 500 characters. A name without a value, which
            ``on_call_start`` can give, is logged: it is left out of ``first_message``, and stays as it is in
            ``system_prompt``. Other braces, as of JSON, always stay.
        phone_preamble: tell the model, before ``system_prompt``, that this is a telephone call in ``language``, whose
            words are spoken; False: the model gets ``system_prompt`` alone.
        hooks: functions between the stages; see ``docs/hooks.md``.
        text_transforms: functions applied in order to each sentence before it is spoken; None:
            :func:`~patter_trio.filter_for_tts`, which removes Markdown, HTML and emoji; empty: the text is spoken as it
            is. Wherever that filter is in the list, it is applied to the text as it is generated, before that is cut
            into sentences.
        guardrails: checks that block sentences, as :class:`~patter_trio.Guardrail` or dicts of its arguments; if
            several block a sentence, the first one's replacement is spoken.
        barge_in_threshold_ms: milliseconds from the onset of the caller's voice over the agent until the reply is cut;
            0: never.
        barge_in_min_words: number of words needed to interrupt the agent; 0: voice alone interrupts. In scripts without
            spaces, two Chinese characters, three kana or four letters of Thai count as a word.
        endpointing_ms: milliseconds of silence after the last voice that end an utterance; 0: the voice's end ends it.
        dtmf: what becomes of the keys that the caller presses. A :class:`~patter_trio.Keypad` (also True): a message,
            which the agent answers; a :class:`~patter_trio.Menu`: its choices; False: only ``on_dtmf`` is called. By
            default a message, or nothing more where the program has ``on_dtmf``.
        user_away_timeout: seconds without speech from either side after which the caller counts as away; None: never.
        silence_timeout: seconds without speech from either side after which the agent hangs up; None: never.
        max_call_duration: seconds after which the agent hangs up, once it has finished what it is saying; None: never.
        on_failure: connects the caller with a person when the call cannot go on: ``transfer_call({"desk":
            "+15550100003"})``. ``error_message`` is spoken first. This happens if a provider is lost for good, and
            after two failed replies in a row; None: the call ends, or goes on.
        error_message: spoken when a reply fails; None: an apology in English that asks the caller to say it again.

    Raises:
        MissingExtraError: ``stt`` or ``tts`` is omitted and the local ones are not installed.
        ConfigurationError: an option has a wrong type or value, or cannot be combined with another.
    """

    system_prompt: str = attrs.field(validator=instance_of(str))
    engine: Engine | None = attrs.field(default=None, kw_only=True, validator=_optional(instance_of(Engine)))
    stt: SpeechToText | None = attrs.field(default=None, kw_only=True, validator=_optional(instance_of(SpeechToText)))
    tts: TextToSpeech | None = attrs.field(default=None, kw_only=True, validator=_optional(instance_of(TextToSpeech)))
    llm: LanguageModel | None = attrs.field(
        default=None, kw_only=True, converter=language_model_of, validator=_optional(instance_of(LanguageModel))
    )
    # None only until the converter has run: every call needs a VAD.
    vad: VoiceActivity = attrs.field(default=None, kw_only=True, converter=vad_of, validator=instance_of(VoiceActivity))
    turn_detector: TurnDetector | None = attrs.field(
        default=None, kw_only=True, validator=_optional(instance_of(TurnDetector))
    )
    language: str = attrs.field(default="en", kw_only=True, validator=instance_of(str))
    voice: str = attrs.field(default="", kw_only=True, validator=instance_of(str))
    first_message: str = attrs.field(default="", kw_only=True, validator=[instance_of(str), check_words])
    recording_notice: str = attrs.field(default="", kw_only=True, validator=[instance_of(str), check_words])
    tools: tuple[Tool, ...] = attrs.field(default=(), kw_only=True, converter=tools_of)
    variables: Mapping[str, Any] = attrs.field(
        default=None, kw_only=True, converter=variables_of, validator=[instance_of(Mapping), check_names]
    )
    phone_preamble: bool = attrs.field(default=True, kw_only=True, validator=instance_of(bool))
    hooks: PipelineHooks | None = attrs.field(
        default=None, kw_only=True, validator=_optional(instance_of(PipelineHooks))
    )
    # None only until the converter has run.
    text_transforms: tuple[Callable[[str], str], ...] = attrs.field(
        default=None, kw_only=True, converter=_transforms_of
    )
    transforms: tuple[Hook, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_inspected, takes_self=True)
    )
    """The ``text_transforms`` for sentences, as hooks, inspected once for all calls."""
    guardrails: tuple[Guardrail, ...] = attrs.field(default=(), kw_only=True, converter=guardrails_of)
    # Judged by listening: long enough that a cough ends before it, short enough that the agent seems to listen.
    barge_in_threshold_ms: int = attrs.field(default=250, kw_only=True, validator=check_whole)
    barge_in_min_words: int = attrs.field(default=0, kw_only=True, validator=check_whole)
    # Judged by listening. A shorter silence is often only a thought within a sentence.
    endpointing_ms: int = attrs.field(default=500, kw_only=True, validator=check_whole)
    dtmf: Keypad | Menu | None = attrs.field(default=DEFAULT_KEYPAD, kw_only=True, converter=dtmf_of)
    user_away_timeout: float | None = attrs.field(default=None, kw_only=True, validator=_optional(check_seconds))
    silence_timeout: float | None = attrs.field(default=None, kw_only=True, validator=_optional(check_seconds))
    max_call_duration: float | None = attrs.field(
        default=MAX_CALL_DURATION_S, kw_only=True, validator=_optional(check_seconds)
    )
    on_failure: Tool | None = attrs.field(default=None, kw_only=True, converter=checked_failure)
    error_message: str = attrs.field(
        default=None, kw_only=True, converter=_error_message_of, validator=instance_of(str)
    )

    # The order matters: formats and contradictions first, because resolving may load a provider that is then refused.
    def __attrs_post_init__(self) -> None:
        self._check_formats()
        self._check_parts()
        # Resolve now, so that an unknown voice or a missing extra is an error here and not in serve().
        self._check_language(self.resolved)

    # Cached: evaluating it twice would make two sets of default providers for one agent.
    @cached_property
    def resolved(self) -> "Agent":
        """The agent as calls use it: omitted providers are replaced by the defaults, and ``voice`` is applied.

        The fields of this agent stay as given. In the resolved agent ``voice`` is empty, because its provider has it.
        """
        engine, stt, tts = self.engine, self.stt, self.tts
        if engine is None:
            # Not with an engine: that replaces both, and a default would need the extra ``local``.
            stt = default_stt() if stt is None else stt
            tts = default_tts() if tts is None else tts
            # Applied here, so that calls know only providers, never a voice beside them.
            tts = tts.with_voice(self.voice) if self.voice else tts
        elif self.voice:
            # With an engine, ``tts`` speaks only fixed texts, and keeps its own voice.
            engine = engine.with_voice(self.voice)
        # The same object, so that an agent that is resolved already costs nothing.
        if engine is self.engine and stt is self.stt and tts is self.tts:
            return self
        return attrs.evolve(self, engine=engine, stt=stt, tts=tts, voice="")

    def _check_formats(self) -> None:
        for option, part, does in (
            ("stt", self.stt, "accepts"),
            ("tts", self.tts, "emits"),
            ("engine", self.engine, "accepts"),
            ("engine", self.engine, "emits"),
        ):
            # Now, not at the first audio: a rate that soxr cannot convert would fail each call.
            if part is not None and (problem := rate_problem(getattr(part, does))):
                raise ConfigurationError(f"{option} must {does[:-1]} audio {problem}")

    def _check_language(self, used: "Agent") -> None:
        # Of the resolved agent, because the embedded providers are those that know one language only.
        for option, part in (("stt", used.stt), ("tts", used.tts)):
            if part is not None and (problem := part.language_problem(self.language)):
                raise ConfigurationError(
                    f"language must be one that {option} supports; {type(part).__name__}: {problem}"
                )

    def _check_parts(self) -> None:
        if self.engine is None:
            self._check_tools()
            return
        # Refused, not ignored: an application that sets a hook must not believe that it works.
        beside = [name for name in PIPELINE_ONLY_OPTIONS if getattr(self, name)]
        if self.text_transforms == DEFAULT_TEXT_TRANSFORMS:  # for the texts that ``tts`` speaks beside an engine
            beside.remove("text_transforms")
        if beside:
            raise ConfigurationError(
                f"engine= cannot be combined with {', '.join(f'{name}=' for name in beside)}: it replaces STT, LLM and "
                "TTS"
            )

    def _check_tools(self) -> None:
        if self.tools and self.llm is not None and not self.llm.takes_tools:
            # The application's own class, not the one that adapts it.
            name = self.llm.name if isinstance(self.llm, AdaptedModel) else type(self.llm).__name__
            raise ConfigurationError(
                f"llm= must be a model that can call tools, because the agent has tools=, got {name}: its stream() "
                "must take tools=, and its takes_tools must not be False"
            )

    def policy(self, *, reply: float, takes_back: bool = False) -> TurnPolicy:
        """Return the limits for the turn machine.

        Args:
            reply: seconds to wait at most for a reply's first audio.
            takes_back: True if a transfer may fail as late as nobody answers it.
        """
        policy = TurnPolicy(
            endpoint=self.endpointing_ms / 1000,
            # 0 means never; infinity is the distance of a deadline that never comes.
            overlap=self.barge_in_threshold_ms / 1000 or math.inf,
            min_words=self.barge_in_min_words,
            away=self.user_away_timeout or math.inf,
            language=self.language,
            reply=reply,
        )
        if takes_back:
            policy = attrs.evolve(policy, transfer=policy.answered_transfer)
        if self.dtmf is not None:
            keypad = self.dtmf.keypad if isinstance(self.dtmf, Menu) else self.dtmf
            policy = attrs.evolve(
                policy,
                key_pause=keypad.pause,
                max_keys=keypad.max_digits,
                key_terminator=keypad.terminator,
                keys_interrupt=keypad.interrupts,
                keys_choose=isinstance(self.dtmf, Menu),
            )
        if self.engine is None:
            return policy
        # An engine reports its words late or never, so voice alone must count as an utterance.
        policy = attrs.evolve(policy, needs_words=False, max_wordless_voice=MAX_MONOLOGUE_S)
        if not self.engine.ends_turns:
            return policy
        # The engine's own answer first: it knows what it was configured with.
        endpoint = self.engine.longest_silence or ENGINE_ENDPOINT_WAIT_S[self.engine.ends_turns]
        # The trigger is what ``eos`` reports, so that metrics can tell who ended the turn.
        return attrs.evolve(policy, endpoint=endpoint, early_trigger=self.engine.ends_turns)

    def text_filter(self, *, generated: bool) -> TextFilter | None:
        """Return a filter for the text of one reply, before it is cut into sentences; None if it is spoken as it is.

        Args:
            generated: a model or ``on_message`` gives the text. Its reasoning and leaked tool calls are never spoken.
        """
        if filter_for_tts in self.text_transforms:
            return SpeechFilter()
        return HiddenTextFilter() if generated else None

    @property
    def failure_destination(self) -> str:
        """The number or SIP address of ``on_failure``; empty without one."""
        return next(iter(self.on_failure.destinations.values())) if isinstance(self.on_failure, TransferTool) else ""

    @property
    def greeting(self) -> str:
        """The first message as it is spoken: with the variables filled in, and without names that have no value."""
        return filled_to_speak(self.first_message, self.variables)

    @property
    def spoken_notice(self) -> str:
        """The notice that the call is recorded as it is spoken; see :attr:`greeting`."""
        return filled_to_speak(self.recording_notice, self.variables)

    @property
    def instructions(self) -> str:
        """The system prompt as the model gets it: behind the phone preamble, with the variables filled in."""
        prompt = filled(self.system_prompt, self.variables)
        if not self.phone_preamble:
            return prompt
        return f"{phone_preamble(self.language)}\n\n{prompt}".rstrip()

    def unfilled(self) -> list[str]:
        """Return a complaint for each text that has a ``{name}`` without a variable, with the one that was meant."""
        return [
            f"{option} has {', '.join(f'{{{name}}}{did_you_mean(name, self.variables)}' for name in names)}, "
            "but variables= has no value for it"
            for option in ("system_prompt", "first_message", "recording_notice")
            if (names := unknown_names(getattr(self, option), self.variables))
        ]

    async def prewarm(self) -> None:
        """Load models and open connections before the first call, which would otherwise wait for them.

        Raises:
            ProviderError: a provider cannot be used.
            ConfigurationError: a model is missing or differs from the pinned one.
        """
        used = self.resolved
        # One after another, not at once: each loads a model or imports a library, which is work for one core.
        for provider in (used.vad, used.engine, used.stt, used.tts, used.llm, used.turn_detector):
            if provider is not None:
                await provider.prewarm()

    def overridden(self, overrides: Mapping[str, Any]) -> tuple["Agent", list[str]]:
        """Return this agent, resolved, with the valid overrides of ``on_call_start``; and a complaint for each other.

        ``voice`` is applied before an override of ``tts``, so the new TTS keeps its own voice: the name of a voice of
        one vendor may mean nothing to another.
        """
        agent, complaints = self.resolved, []
        unknown = sorted(str(key) for key in overrides if key not in OVERRIDABLE)
        if unknown:
            complaints.append(
                f"on_call_start cannot override {', '.join(unknown)}; it can: {', '.join(sorted(OVERRIDABLE))}"
            )
        # Sorted: "tts" comes before "voice", so a voice that is given together with a TTS is meant for that one.
        # Tools are taken away before the LLM changes, and given after it: both LLMs may differ in takes_tools.
        for key in sorted(
            OVERRIDABLE & overrides.keys(), key=lambda key: (key != "tools" or bool(overrides[key]), key)
        ):
            try:
                # Resolved each time, so that a voice is applied to the provider that was there when it came.
                agent = attrs.evolve(agent, **{key: overrides[key]}).resolved
            # One wrong override must not take the others with it.
            except ConfigurationError as error:
                complaints.append(str(error))
        return agent, complaints

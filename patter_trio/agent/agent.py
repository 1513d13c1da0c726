"""What an agent is: frozen options, no behaviour. Made by :meth:`patter_trio.Patter.agent`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from patter_trio.abc import Engine, LanguageModel, SpeechToText, TextToSpeech, TurnDetector, VoiceActivity
from patter_trio.agent.guardrails import Guardrail, guardrails_of
from patter_trio.agent.hooks import Hook, PipelineHooks, hook_of
from patter_trio.agent.tools import Tool, tools_of
from patter_trio.audio.convert import rate_problem
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.errors import ConfigurationError

OVERRIDABLE = frozenset(
    {
        "error_message",
        "first_message",
        "guardrails",
        "hooks",
        "language",
        "llm",
        "max_call_duration",
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
"""What ``on_call_start`` may change for one call. The rest (``vad``, ``turn_detector``, ``barge_in_*``,
``endpointing_ms``, ``user_away_timeout``) is at work from the first frame on, before it has answered."""


MAX_MONOLOGUE_S = 60.0
"""Seconds of voice without a pause after which it is an utterance for an engine: nothing tells speech from music."""
ENGINE_ENDPOINT_WAIT_S = {"vad_silence": 2.0, "semantic_turn_detector": 10.0}
"""Seconds of silence after which an utterance is over though an engine that detects turns has not said so, if it does not say
itself how long that may take."""
PIPELINE_ONLY_OPTIONS = ("stt", "llm", "hooks", "text_transforms", "guardrails", "barge_in_min_words")
"""What works on the texts between recogniser, model and voice, which an engine does not have."""


def _positive(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not (isinstance(value, int | float) and value >= 0):
        raise ConfigurationError(f"{attribute.name} must be a number of at least 0, not {value!r}")


def _instance_of(kind: type) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigurationError(
                f"{attribute.name} must be a {kind.__name__}, not {type(value).__name__}: {value!r}"
            )

    return check


def _transforms_of(given: object) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise ConfigurationError(f"text_transforms must be a list of functions, not {type(given).__name__}: {given!r}")
    return tuple(given)


def _inspected(agent: "Agent") -> tuple[Hook, ...]:
    return tuple(
        hook_of("text_transforms", function, label=f"text_transforms[{place}]")
        for place, function in enumerate(agent.text_transforms)
    )


def _names(_: object, attribute: "attrs.Attribute[Any]", value: Mapping[object, Any]) -> None:
    for name in value:
        if not isinstance(name, str):
            raise ConfigurationError(f"{attribute.name} must have names that are text, not {name!r}")


@attrs.frozen(kw_only=True)
class Agent:
    """A phone agent: who it is, how it hears, thinks and speaks, and when it lets itself be interrupted.

    One agent serves any number of calls at once; nothing in it changes.
    """

    system_prompt: str = attrs.field(validator=_instance_of(str))
    vad: VoiceActivity = attrs.field(validator=_instance_of(VoiceActivity))
    engine: Engine | None = attrs.field(default=None, validator=attrs.validators.optional(_instance_of(Engine)))
    """Hears, thinks and speaks, in the place of ``stt``, ``llm`` and ``tts``."""
    stt: SpeechToText | None = attrs.field(
        default=None, validator=attrs.validators.optional(_instance_of(SpeechToText))
    )
    tts: TextToSpeech | None = attrs.field(
        default=None, validator=attrs.validators.optional(_instance_of(TextToSpeech))
    )
    """Beside an engine: the voice of texts that are not its own, word for word."""
    llm: LanguageModel | None = attrs.field(
        default=None, validator=attrs.validators.optional(_instance_of(LanguageModel))
    )
    turn_detector: TurnDetector | None = attrs.field(
        default=None, validator=attrs.validators.optional(_instance_of(TurnDetector))
    )
    language: str = attrs.field(default="en", validator=_instance_of(str))
    """BCP 47 tag, for recogniser and synthesiser."""
    voice: str = attrs.field(default="", validator=_instance_of(str))
    """Another voice for ``engine``, else for ``tts``, by the vendor's name or id for it; empty: its own."""
    first_message: str = attrs.field(default="", validator=_instance_of(str))
    """Spoken as soon as the call is there; empty: the caller speaks first."""
    hooks: PipelineHooks | None = attrs.field(
        default=None, validator=attrs.validators.optional(_instance_of(PipelineHooks))
    )
    """Functions between the stages; see ``docs/hooks.md``."""
    text_transforms: tuple[Callable[[str], str], ...] = attrs.field(default=(), converter=_transforms_of)
    """Applied in order to each sentence before it is spoken."""
    transforms: tuple[Hook, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_inspected, takes_self=True)
    )
    """The same, inspected once for all calls."""
    guardrails: tuple[Guardrail, ...] = attrs.field(default=(), converter=guardrails_of)
    """What the agent must not say; the first that blocks a sentence counts."""
    tools: tuple[Tool, ...] = attrs.field(default=(), converter=tools_of)
    """What the model may call; see ``docs/tools.md``."""
    variables: Mapping[str, Any] = attrs.field(factory=dict, validator=[_instance_of(Mapping), _names])
    """``{name}`` in ``system_prompt`` and ``first_message`` is replaced by the value under that name."""
    barge_in_threshold_ms: int = attrs.field(default=250, validator=_positive)
    """Milliseconds from the onset of the caller's voice over the agent until the reply is cut; 0: never."""
    barge_in_min_words: int = attrs.field(default=0, validator=_positive)
    """Words that it takes to interrupt; 0: voice alone does."""
    endpointing_ms: int = attrs.field(default=500, validator=_positive)
    """Milliseconds of silence after the last voice that end an utterance."""
    user_away_timeout: float | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    """Seconds without speech from either side after which the caller counts as away; None: never."""
    silence_timeout: float | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    """Seconds without speech from either side after which the agent hangs up; None: never."""
    max_call_duration: float | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    """Seconds after which the agent hangs up, once it has finished what it is saying; None: never."""
    error_message: str = attrs.field(
        default="I am sorry, something went wrong. Could you say that again?", validator=_instance_of(str)
    )
    """Spoken when a reply fails."""

    def __attrs_post_init__(self) -> None:
        self._check_parts()
        if not self.voice:
            return
        if self.engine is not None:
            object.__setattr__(self, "engine", self.engine.with_voice(self.voice))
        elif self.tts is not None:
            object.__setattr__(self, "tts", self.tts.with_voice(self.voice))

    def _check_formats(self) -> None:
        for option, part, does in (
            ("stt", self.stt, "accepts"),
            ("tts", self.tts, "emits"),
            ("engine", self.engine, "accepts"),
            ("engine", self.engine, "emits"),
        ):
            if part is not None and (problem := rate_problem(getattr(part, does))):
                raise ConfigurationError(f"{option} must {does[:-1]} audio {problem}")

    def _check_parts(self) -> None:
        self._check_formats()
        if self.engine is None:
            missing = [name for name in ("stt", "tts") if getattr(self, name) is None]
            if missing:
                raise ConfigurationError(
                    f"an agent without engine= needs {' and '.join(f'{name}=' for name in missing)}"
                )
            return
        beside = [name for name in PIPELINE_ONLY_OPTIONS if getattr(self, name)]
        if beside:
            raise ConfigurationError(
                f"engine= hears, thinks and speaks by itself: {', '.join(f'{name}=' for name in beside)} cannot be beside it"
            )

    def policy(self, *, reply: float) -> TurnPolicy:
        """Return the numbers that decide about turns; ``reply`` is the longest wait for a reply's first audio, in s."""
        policy = TurnPolicy(
            endpoint=self.endpointing_ms / 1000,
            overlap=self.barge_in_threshold_ms / 1000 or math.inf,
            min_words=self.barge_in_min_words,
            away=self.user_away_timeout or math.inf,
            reply=reply,
        )
        if self.engine is None:
            return policy
        policy = attrs.evolve(policy, needs_words=False, max_wordless_voice=MAX_MONOLOGUE_S)
        if not self.engine.ends_turns:
            return policy
        endpoint = self.engine.longest_silence or ENGINE_ENDPOINT_WAIT_S[self.engine.ends_turns]
        return attrs.evolve(policy, endpoint=endpoint, early_trigger=self.engine.ends_turns)

    def filled(self, text: str) -> str:
        """Return ``text`` with each ``{name}`` of ``variables`` replaced; other braces stay as they are."""
        for name, value in self.variables.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    async def prewarm(self) -> None:
        """Load what the first call would otherwise wait for.

        Raises:
            ProviderError: a provider cannot be used.
            ConfigurationError: a model is missing, or not the one that is pinned.
        """
        for provider in (self.vad, self.engine, self.stt, self.tts, self.llm, self.turn_detector):
            if provider is not None:
                await provider.prewarm()

    def overridden(self, overrides: Mapping[str, Any]) -> tuple["Agent", list[str]]:
        """Return this agent with what ``on_call_start`` asked for, and what is wrong with what it could not get."""
        agent, complaints = self, []
        unknown = sorted(str(key) for key in overrides if key not in OVERRIDABLE)
        if unknown:
            complaints.append(
                f"on_call_start cannot override {', '.join(unknown)}; it can: {', '.join(sorted(OVERRIDABLE))}"
            )
        for key in sorted(OVERRIDABLE & overrides.keys()):
            # Another synthesiser speaks as it is; the agent's own voice may mean nothing to it.
            changes: dict[str, Any] = {"voice": ""} if key == "tts" else {}
            try:
                agent = attrs.evolve(agent, **changes, **{key: overrides[key]})
            except ConfigurationError as error:
                complaints.append(str(error))
        return agent, complaints

"""The actions of a simulated caller as data: written in JSON, generated at random, or played in real time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

# A closed table, checked when a step is made: a scenario may come from a file, and
# ``getattr`` must not call just any method.
_STEPS: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "at": {"seconds": (int, float)},
    "waits": {"seconds": (int, float)},
    "speaks": {"text": (str,), "seconds": (int, float), "wait": (bool,)},
    "coughs": {"seconds": (int, float), "wait": (bool,)},
    "hums": {"text": (str,), "seconds": (int, float), "wait": (bool,)},
    "plays": {"recording": (str,), "wait": (bool,)},
    "presses": {"digits": (str,)},
    "hears": {"within": (int, float)},
    "hangs_up": {},
}
"""The steps, which are methods of the caller, with the types of their options."""
_NEEDED: Final[Mapping[str, str]] = {
    "at": "seconds",
    "waits": "seconds",
    "speaks": "text",
    "plays": "recording",
    "presses": "digits",
}


class ScenarioCaller(Protocol):
    """A simulated caller as a scenario uses it: one method for each step."""

    async def at(self, seconds: float) -> object:
        """Wait until an instant of the call."""

    async def waits(self, seconds: float) -> object:
        """Do nothing for ``seconds``."""

    async def speaks(self, text: str, seconds: float | None = None, *, wait: bool = True) -> object:
        """Say ``text``."""

    async def coughs(self, seconds: float = 0.4, *, wait: bool = True) -> object:
        """Make a noise without words."""

    async def hums(self, text: str = "mhm", seconds: float = 0.4, *, wait: bool = True) -> object:
        """Say a backchannel, which only shows that the caller listens."""

    async def plays(self, recording: str, *, wait: bool = True) -> object:
        """Play a WAV file into the call."""

    async def presses(self, digits: str) -> object:
        """Press keys."""

    async def hears(self, *, within: float = ...) -> object:
        """Wait for the agent's next utterance."""

    async def hangs_up(self) -> object:
        """End the call."""


class ScenarioError(ValueError):
    """The data of a scenario is wrong; the message names the step and what is allowed."""


@attrs.frozen
class Step:
    """One action of a caller: the name of the method and its options."""

    does: str
    options: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        known = _STEPS.get(self.does)
        if known is None:
            raise ScenarioError(f"a step must be one of {', '.join(_STEPS)}, got {self.does!r}")
        for name, value in self.options.items():
            kinds = known.get(name)
            if kinds is None:
                raise ScenarioError(f"{self.does} has no option {name!r}; its options: {', '.join(known) or 'none'}")
            # A bool is an int in Python; ``seconds: true`` is a mistake all the same.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ScenarioError(f"{self.does}: {name} must be a {kinds[-1].__name__}, got {value!r}")
        needed = _NEEDED.get(self.does)
        if needed is not None and needed not in self.options:
            raise ScenarioError(f"{self.does} needs {needed}")


def _as_tuple(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(steps)


@attrs.frozen
class Scenario:
    """A sequence of steps."""

    steps: tuple[Step, ...] = attrs.field(converter=_as_tuple)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Scenario":
        """Return the scenario that :meth:`to_dict` or a person wrote.

        ::

            {
                "steps": [
                    {"does": "at", "seconds": 0.5},
                    {"does": "speaks", "text": "What are your hours?", "seconds": 2.0},
                    {"does": "hears"},
                    {"does": "hangs_up"},
                ]
            }

        Raises:
            ScenarioError: a step is not an action of a caller.
        """
        steps = data.get("steps")
        if not isinstance(steps, Sequence) or isinstance(steps, str):
            # Cut short: the data may be a whole file.
            raise ScenarioError(f'a scenario must be an object {{"steps": [...]}}, got {data!r}'[:200])
        return cls([_step(number, step) for number, step in enumerate(steps, 1)])

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as data that JSON can hold."""
        return {"steps": [{"does": step.does, **step.options} for step in self.steps]}

    async def play(self, caller: ScenarioCaller) -> None:
        """Act out the steps.

        Raises:
            NotAsExpected: a step is impossible, such as to speak after the end of the call.
        """
        for step in self.steps:
            # One after another: the caller is one person. Parallel actions have ``wait: false``.
            act: Callable[..., Any] = getattr(caller, step.does)
            await act(**step.options)


def _step(number: int, data: Any) -> Step:
    if not isinstance(data, Mapping) or not isinstance(data.get("does"), str):
        raise ScenarioError(f'step {number} must be an object such as {{"does": "at", "seconds": 0.5}}, got {data!r}')
    try:
        return Step(data["does"], {name: value for name, value in data.items() if name != "does"})
    # From None: the number of the step is all that the outer error adds, and the inner one would be shown twice.
    except ScenarioError as error:
        raise ScenarioError(f"step {number}: {error}") from None

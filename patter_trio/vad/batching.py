"""One inference for the windows of many calls.

A small recurrent model spends most of its time on what a window costs however many come with it: its weights are read
from memory once a run. Alone a window takes about 150 microseconds on a shared server core, one of sixteen about 40. So
the calls of a process wait for each other, for :data:`BATCH_WAIT_S` at most: the first call that has a window waits that long
and then runs the model for all that have come meanwhile. A batch that is full runs at once.

No task is needed for it, and so none can be lost: whoever waits runs the batch, also when it is cancelled while waiting.
With few calls nothing is gained by waiting, and nobody does.
"""

from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs
import numpy as np
import numpy.typing as npt
import trio

from patter_trio.errors import ProviderError
from patter_trio.net.run_local import run_local

BATCH_WAIT_S: Final = 0.008
"""Seconds that the first window of a batch waits for others: what a decision is later by at most, and on average half of
it for the calls that come in between."""
MAX_UNBATCHED_SESSIONS: Final = 8
"""Sessions up to which every window is inferred alone, at once."""
MAX_BATCH_WINDOWS: Final = 32
"""Windows in a batch; about 1.2 ms in which nothing else runs. Larger ones are hardly cheaper per window."""

Floats = npt.NDArray[np.float32]
S = TypeVar("S")


class BatchModel(Protocol[S]):
    """A model whose state of each voice is kept outside of it."""

    def infer(self, windows: Floats, states: Sequence[S]) -> tuple[Floats, list[S]]:
        """Return the probability of speech in each window (shape (B, W)), and the states after them.

        Raises:
            ProviderError: the model failed.
        """


@attrs.define(eq=False)
class _Batch(Generic[S]):
    windows: list[Floats] = attrs.field(factory=list)
    states: list[S] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)
    probabilities: list[float] = attrs.field(factory=list)
    error: ProviderError | None = None

    def run(self, model: BatchModel[S]) -> None:
        """Infer, once; whoever waits for the batch finds the results, or the error, in it."""
        if self.done.is_set():
            return
        self.error = ProviderError("the inference of another call's window crashed")
        try:
            probabilities, self.states = model.infer(np.stack(self.windows), self.states)
            self.probabilities, self.error = probabilities.tolist(), None
        except ProviderError as error:
            self.error = error
        finally:  # a bug, too, must leave nobody waiting
            self.done.set()


class Batcher(Generic[S]):
    """Joins the inferences of all sessions of one model, in one run of trio."""

    def __init__(self, model: BatchModel[S]) -> None:
        self._model = model
        self._batch: _Batch[S] | None = None
        self.sessions: int = 0
        """How many sessions may have windows."""

    def __repr__(self) -> str:
        waiting = len(self._batch.windows) if self._batch else 0
        return f"<Batcher of {self.sessions} sessions, {waiting} windows waiting>"

    async def infer(self, window: Floats, state: S) -> tuple[float, S]:
        """Return the probability of speech in one window, shape (W,), and the state after it.

        Raises:
            ProviderError: the model failed.
        """
        if self.sessions <= MAX_UNBATCHED_SESSIONS:
            probabilities, [after] = self._model.infer(window[np.newaxis], [state])
            return float(probabilities[0]), after
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
        place = len(batch.windows)
        batch.windows.append(window)
        batch.states.append(state)
        if place == MAX_BATCH_WINDOWS - 1:
            self._run(batch)
        elif place == 0:
            await self._gather(batch)
        else:
            await batch.done.wait()
        if batch.error is not None:
            raise ProviderError(str(batch.error)) from batch.error
        return batch.probabilities[place], batch.states[place]

    async def _gather(self, batch: _Batch[S]) -> None:
        try:
            with trio.move_on_after(BATCH_WAIT_S):
                await batch.done.wait()
        finally:
            self._run(batch)  # also when cancelled: the others wait for it

    def _run(self, batch: _Batch[S]) -> None:
        if self._batch is batch:
            self._batch = None
        batch.run(self._model)


_batchers: trio.lowlevel.RunVar[dict[int, Batcher[Any]]] = trio.lowlevel.RunVar("patter_trio_batchers")


def batcher_of(model: BatchModel[S]) -> Batcher[S]:
    """Return the one batcher of a model, in this run of trio."""
    # By identity: the batcher holds the model, so that its id cannot come to mean another one.
    return run_local(_batchers, dict[int, Batcher[Any]]).setdefault(id(model), Batcher(model))

"""One inference for the windows of many calls.

A small recurrent model spends most of its time on a cost that does not depend on the number of windows: each run reads
the weights from memory. A single window takes about 150 microseconds on a shared server core, one of sixteen about 40.
So the calls of a process wait for each other, for at most :data:`BATCH_WAIT_S`: the first call with a window waits that
long and then runs the model for all windows that have come meanwhile. A full batch runs at once.

This needs no task that could be lost: a waiting call runs the batch itself, even if it is cancelled while waiting. With
few calls waiting gains nothing, and no call waits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs
import numpy as np
import numpy.typing as npt
import trio

from patter_trio.errors import ProviderError
from patter_trio.net.run_local import run_local

# Judged: a quarter of a window, in which about a quarter of all calls have their next window ready.
BATCH_WAIT_S: Final = 0.008
"""Longest wait, in seconds, of a batch's first window: the most by which a decision is late. The calls that join later
wait half of it on average."""
# Judged: of eight calls about two have a window ready within 8 ms, and the second one saves less than the waits cost.
MAX_UNBATCHED_SESSIONS: Final = 8
"""Most sessions for which each window is inferred alone, at once."""
# Measured: a window takes 98 microseconds alone, 46 in a batch of 8, 35 in one of 32 and 34 in one of 128.
MAX_BATCH_WINDOWS: Final = 32
"""Most windows in a batch; it blocks the event loop for about 1.2 ms. Larger batches are hardly cheaper per window."""

Floats = npt.NDArray[np.float32]
S = TypeVar("S")


class BatchModel(Protocol[S]):
    """A model that keeps no state of a voice; its callers hold the states."""

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
        """Run the inference once, and keep the results, or the error, for all calls that wait for the batch."""
        if self.done.is_set():
            return
        # Set before the inference: after an unexpected exception, the waiting calls must not read missing results.
        self.error = ProviderError("the inference of another call's window crashed")
        try:
            probabilities, self.states = model.infer(np.stack(self.windows), self.states)
            self.probabilities, self.error = probabilities.tolist(), None
        except ProviderError as error:
            self.error = error
        finally:  # even a bug must not leave a call waiting
            self.done.set()


class Batcher(Generic[S]):
    """Batcher for the inferences of all sessions of one model, in one trio run."""

    def __init__(self, model: BatchModel[S]) -> None:
        self._model = model
        self._batch: _Batch[S] | None = None
        self.sessions: int = 0
        """Number of open sessions."""

    def __repr__(self) -> str:
        waiting = len(self._batch.windows) if self._batch else 0
        return f"<Batcher of {self.sessions} sessions, {waiting} windows waiting>"

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a session while the block runs; the number decides whether windows wait for a batch."""
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1

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
        # The last call to fit runs the batch at once. The first one waits for others, then runs it. The rest wait for
        # either.
        if place == MAX_BATCH_WINDOWS - 1:
            self._run(batch)
        # The first window's task is the batch's, and its wait is the batch's wait.
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
            self._run(batch)  # even when cancelled: the other calls wait for this batch

    def _run(self, batch: _Batch[S]) -> None:
        # Detach the batch first, so that the next window starts a new one.
        if self._batch is batch:
            self._batch = None
        batch.run(self._model)


_batchers: trio.lowlevel.RunVar[dict[int, Batcher[Any]]] = trio.lowlevel.RunVar("patter_trio_batchers")


def batcher_of(model: BatchModel[S]) -> Batcher[S]:
    """Return the single batcher of a model in this trio run."""
    # By identity: the batcher holds the model, so its id cannot be reused for another one.
    # Per trio run, because its events belong to the run; the model belongs to the process.
    return run_local(_batchers, dict[int, Batcher[Any]]).setdefault(id(model), Batcher(model))

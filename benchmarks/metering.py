"""The cost of measuring a call: the processor time of its metrics, per second of call.

``python -m benchmarks.metering [--repeats 200]``

A call of a minute is simulated on an autojump clock and its events are recorded. They are then reported to a fresh
meter ``--repeats`` times, each event made anew as the call makes it.
"""

import argparse
import time

import attrs
import trio
from trio.testing import MockClock

from patter_trio import Patter
from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import CallEvent
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.public_events import CallOver, PublicEvent, TurnMeasured
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.simulation.simulator import simulate_call

# Long enough for several turns; a turn is what metering works on.
CALL_S = 60.0
ANSWER = "We are open from nine in the morning to six in the evening. On Sundays we are closed, all day."

Seen = list[tuple[CallEvent, float]]


@attrs.define
class Recorder:
    """An observer of a call that records what its metering sees."""

    seen: Seen = attrs.field(factory=list)

    def wants(self, kind: type[CallEvent]) -> bool:
        """Ask for nothing: the events are those that a call makes for its metering."""
        del kind
        return False

    def on_event(self, event: CallEvent, at: float) -> None:
        """Record an event."""
        self.seen.append((event, at))


async def recorded_call() -> Seen:
    """Run a call of a minute, in turns; return everything that its metering sees."""
    recorder = Recorder()
    agent = Patter().agent(
        "You are brief.",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(interim_every=0.3),
        llm=ScriptedLLM([ANSWER]),
        tts=ScriptedTTS(per_character=0.06),
    )
    async with simulate_call(agent, seams=Seams(observers=[recorder])) as caller:
        # The last turn has to end within the minute.
        while caller.now < CALL_S - 10:
            await caller.speaks("When are you open, please?", seconds=1.5)
            await caller.hears()
        await caller.at(CALL_S)
    return recorder.seen


class _Nobody:
    def put(self, *_: object) -> None:
        pass


def measured(seen: Seen, repeats: int, *, metering: bool) -> float:
    """Return the processor seconds that it takes to report everything once."""
    media = MediaClock()
    media.arrived(160, 0.02)
    # As at the end of the call: the meter turns positions in the audio into instants.
    media.samples = round(CALL_S * 8000)
    # The meter makes the events that are left out here itself.
    kept = [event for event in seen if not isinstance(event[0], TurnMeasured | CallOver)]
    # Taken apart beforehand, so that the loop pays for making each event, as the call does, and for nothing else.
    made = [(type(event), attrs.asdict(event, recurse=False), at) for event, at in kept]
    spent = 0.0
    for _ in range(repeats):
        # Fresh each time: a meter keeps its turns, and would grow.
        info, meter = CallInfo("CA1", "", "", "inbound"), Meter("CA1", media) if metering else None
        reporter = CallReporter(_Nobody(), info, media, epoch=0.0, tap=None, meter=meter)  # type: ignore[arg-type]
        began = time.process_time()
        for kind, fields, at in made:
            event = kind(**fields)
            if isinstance(event, PublicEvent):
                reporter.emit_event(event, at)
            else:
                reporter.emit_fact(event, at)
        spent += time.process_time() - began
    return spent / repeats


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    seen = trio.run(recorded_call, clock=MockClock(autojump_threshold=0))
    with_it = measured(seen, repeats, metering=True)
    without = measured(seen, repeats, metering=False)
    turns = sum(isinstance(event, TurnMeasured) for event, _ in seen)
    print(f"a call of {CALL_S:g} s, {turns} turns, {len(seen)} events")
    print(f"measured:     {with_it / CALL_S * 1e6:6.1f} us of processor time per second of call")
    print(f"not measured: {without / CALL_S * 1e6:6.1f} us")
    print(f"difference:   {(with_it - without) / CALL_S * 1e6:6.1f} us, {(with_it - without) / CALL_S:.6%} of a core")


if __name__ == "__main__":
    main()

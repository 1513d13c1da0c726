"""The cost of measuring a call: the processor time of its metrics, per second of call.

``python -m benchmarks.metering [--repeats 200]``

A call of a minute is simulated on an autojump clock. All that its observers see is recorded, and then fed to a fresh
meter ``--repeats`` times. The cost includes building the payload of each internal event, which is needed only for
observers.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import trio
from trio.testing import MockClock

from patter_trio import Patter
from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.metering import Metering
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.simulation.simulator import simulate_call

CALL_S = 60.0
ANSWER = "We are open from nine in the morning to six in the evening. On Sundays we are closed, all day."

Seen = list[tuple[str, float, Mapping[str, Any]]]


async def talk() -> Seen:
    """Run a call of a minute, in turns; return everything that its metering sees."""
    seen: Seen = []
    on_event = Metering.on_event

    def noted(self: Metering, name: str, at: float, payload: Mapping[str, Any]) -> None:
        seen.append((name, at, payload))
        on_event(self, name, at, payload)

    Metering.on_event = noted  # type: ignore[method-assign]
    agent = Patter().agent(
        "You are brief.",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(interim_every=0.3),
        llm=ScriptedLLM([ANSWER]),
        tts=ScriptedTTS(per_character=0.06),
    )
    try:
        async with simulate_call(agent) as caller:
            while caller.now < CALL_S - 10:
                await caller.speaks("When are you open, please?", seconds=1.5)
                await caller.hears()
            await caller.at(CALL_S)
    finally:
        Metering.on_event = on_event  # type: ignore[method-assign]
    return seen


class _Nobody:
    def tell(self, *_: object) -> None:
        pass


def measured(seen: Seen, repeats: int, *, metering: bool) -> float:
    """Return the processor seconds that it takes to report everything once."""
    media = MediaClock()
    media.arrived(160, 0.02)
    media.samples = round(CALL_S * 8000)
    edges = {"user_speech_started", "user_speech_ended", "user_speech_eos", "transcript", "llm_token", "audio_out"}
    edges |= {"agent_speech_started", "agent_speech_ended", "transcript_partial"}
    spent = 0.0
    for _ in range(repeats):
        reporter = CallReporter(_Nobody(), CallInfo("CA1", "", "", "inbound"), media, epoch=0.0, tap=None)  # type: ignore[arg-type]
        if metering:
            reporter.metering = Metering("CA1", Meter("CA1", media), reporter.emit_event)
        began = time.process_time()
        for name, at, payload in seen:
            if name in edges:
                reporter.emit_event(name, at, payload)
            elif name not in ("metrics", "call_end"):
                reporter.emit_fact(name, at, {**payload})
        spent += time.process_time() - began
    return spent / repeats


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    seen = trio.run(talk, clock=MockClock(autojump_threshold=0))
    with_it = measured(seen, repeats, metering=True)
    without = measured(seen, repeats, metering=False)
    turns = sum(name == "metrics" for name, _, _ in seen)
    print(f"a call of {CALL_S:g} s, {turns} turns, {len(seen)} events")
    print(f"measured:     {with_it / CALL_S * 1e6:6.1f} us of processor time per second of call")
    print(f"not measured: {without / CALL_S * 1e6:6.1f} us")
    print(f"difference:   {(with_it - without) / CALL_S * 1e6:6.1f} us, {(with_it - without) / CALL_S:.6%} of a core")


if __name__ == "__main__":
    main()

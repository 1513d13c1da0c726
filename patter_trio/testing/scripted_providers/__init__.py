"""Scripted providers, and the simulated voices that carry their words in the audio.

Each provider is frozen like a real one, with a session for each call. They understand the voice of
:class:`~patter_trio.testing.simulation.caller.SimulatedCaller` (see
:mod:`patter_trio.testing.scripted_providers.audible_text`); to them, other sound is voice without words. Times are
seconds; on a :class:`trio.testing.MockClock` they are exact.
"""

# Theory of operation. Instants are computed from the audio, not taken when the code happens to run: a voice
# ended when its last sample arrived, and a result is due a fixed time after that. Results wait in a heap
# until their instant. So a loaded machine, or audio that comes in lumps, moves no result by a millisecond,
# and a test may assert the instant of each.

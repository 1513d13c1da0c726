"""The carrier's buffer and the caller's mouth, against a model that knows every sample."""

from hypothesis import given
from hypothesis import strategies as st

from patter_trio.testing.carriers.playback import CallerAudio, PhonePlayback, Stretch, whole

SILENCE_BYTE = 0xFF
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("media"), st.integers(1, 3000)),
        st.tuples(st.just("mark"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 4000)),
    ),
    max_size=30,
)


@given(STEPS)
def test_playback_and_marks_match_per_sample_model(steps: list[tuple[str, int]]) -> None:
    """The playback and the return of its marks match a model that plays sample by sample."""
    playback = PhonePlayback()
    now, queue, played, expected = 0, list[int | str](), dict[int, int](), list[tuple[int, str]]()
    returned: list[tuple[int, str]] = []
    for number, (kind, amount) in enumerate([*steps, ("wait", 100_000)], 1):
        if kind == "media":
            playback.media(bytes([number]) * amount, now / 8000)
            queue += [number] * amount
        elif kind == "mark":
            playback.mark(str(number), now / 8000)
            queue.append(str(number))
        elif kind == "clear":
            returned += [(now, name) for name in playback.clear(now / 8000)]
            expected += [(now, item) for item in queue if isinstance(item, str)]
            queue.clear()
        returned += [(now, name) for name in playback.reached(now / 8000)]
        for sample in range(now, now + (amount if kind == "wait" else 0) + 1):
            while queue and isinstance(queue[0], str):
                expected.append((sample, str(queue.pop(0))))
            if sample < now + (amount if kind == "wait" else 0) and queue:
                played[sample] = int(queue.pop(0))
        if kind == "wait":
            while playback.next_mark <= (now + amount) / 8000:
                at = playback.next_mark
                returned += [(round(at * 8000), name) for name in playback.reached(at)]
            now += amount
    got = {
        round(stretch.at * 8000) + index: value
        for stretch in playback.played(now / 8000)
        for index, value in enumerate(stretch.audio)
    }
    assert got == played
    assert returned == expected


def test_playback_joins_gapless_stretches_until_now() -> None:
    """The playback joins stretches without a gap and cuts the last one at the requested time."""
    playback = PhonePlayback()
    playback.media(b"a" * 800, 1.0)
    playback.media(b"b" * 800, 1.05)
    playback.media(b"c" * 800, 2.0)
    assert playback.played(1.15) == [Stretch(1.0, b"a" * 800 + b"b" * 400)]
    assert [(stretch.at, stretch.until) for stretch in playback.played(9.0)] == [(1.0, 1.2), (2.0, 2.1)]


@given(st.lists(st.tuples(st.integers(0, 800), st.integers(1, 500)), max_size=8), st.integers(1, 400))
def test_caller_audio_is_taken_once_in_order(said: list[tuple[int, int]], frame: int) -> None:
    """CallerAudio yields what the caller says once, in order, and never before its time."""
    mouth, expected = CallerAudio(), dict[int, int]()
    for number, (gap, amount) in enumerate(said, 1):
        for _ in range(gap // frame):
            mouth.take(frame)
        start, end = mouth.say(bytes([number]) * amount, len(mouth.said) / 8000)
        expected |= dict.fromkeys(range(round(start * 8000), round(end * 8000)), number)
    while len(mouth.said) < 10_000:
        mouth.take(frame)
    assert {at: value for at, value in enumerate(mouth.said) if value != SILENCE_BYTE} == expected


def test_whole_recording_fills_gaps_and_keeps_length() -> None:
    """The whole recording has silence in its gaps and never exceeds its length."""
    audio = whole([Stretch(0.01, b"a" * 80), Stretch(0.03, b"b" * 400)], 0.04)
    assert audio == b"\xff" * 80 + b"a" * 80 + b"\xff" * 80 + b"b" * 80

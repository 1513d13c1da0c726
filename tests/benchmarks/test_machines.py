"""Our own detection of answering machines on a few real recordings, where they are installed."""

from pathlib import Path

import pytest

from benchmarks.machines import findings, machines, people, pink

SOUNDS = Path("/usr/share/asterisk/sounds")
FOLDERS = sorted(folder for folder in SOUNDS.glob("*") if (folder / "vm-intro.wav").is_file())

pytestmark = pytest.mark.skipif(not FOLDERS, reason="Debian's asterisk-core-sounds-*-wav are not installed")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("noise", [None, pink], ids=["clean", "noisy"])
def test_no_person_is_a_machine(folder: Path, noise: object) -> None:
    """No greeting of a person is taken for a machine's, in silence and in noise 20 dB below the voice."""
    found = [findings(line, pink if noise else None, 20.0) for line in people(folder, 6)]
    assert {answers[0][1].answered_by for answers in found} <= {"human", "unknown"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_voicemail_is_found_and_awaited(folder: Path) -> None:
    """A voicemail with a beep is a machine, and no message is left before its beep is over."""
    lines = [line for line in machines(folder, 6) if line.kind == "voicemail with a beep"]
    for line in lines:
        *_, (at, last) = findings(line)
        assert last.greeting_ended
        assert 0 <= at - line.ends < 0.5

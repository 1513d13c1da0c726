"""The program that the browser phone calls, as the page shows it."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class PhonePage:
    """The program that is served, as the page of the browser phone shows it.

    Args:
        file: the name of the program's file; empty: the program is not a file.
        number: the number that the page calls, E.164; empty: the phone has none.
        recordings: WAV files of callers, which a caller without a microphone can play.
    """

    def __init__(self, file: str = "", number: str = "", recordings: Sequence[Path] = ()) -> None:
        self.file: str = file
        self.number: str = number
        self.recordings: tuple[Path, ...] = tuple(recordings)
        # Different after each start, by which a page that has waited for the server knows that it was loaded anew.
        self._boot = secrets.token_hex(8)
        self._is_reloading = False
        self._mistake = ""

    def __repr__(self) -> str:
        return f"<PhonePage of {self.file or 'a program'}{', reloading' if self._is_reloading else ''}>"

    def announce_reload(self) -> None:
        """Let pages say that the program is about to be loaded anew."""
        self._is_reloading = True

    def report_mistake(self, mistake: str) -> None:
        """Let pages say why the newest version of the program is not loaded; empty: there is no reason."""
        self._mistake = mistake

    def to_dict(self) -> dict[str, Any]:
        """Return what the page asks for: what ``json.dumps`` takes."""
        return {
            "file": self.file,
            "number": self.number,
            "boot": self._boot,
            "reloading": self._is_reloading,
            "mistake": self._mistake,
            "recordings": [
                {"name": file.stem, "url": f"recordings/{number}.wav"} for number, file in enumerate(self.recordings)
            ],
        }

"""Writes the conversation in docs/text-chat.md, as the command holds it: ``python docs/make_text_chat.py``."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = Path(__file__).with_name("text-chat.md")
COMMAND: Final = (
    "patter-trio test examples/restaurant.py --say 'A table for four tomorrow at eight, please.' --say 'Ann Miller.' "
    "--press 4711 --say 'May I talk to a person?'"
)
_BEGIN: Final = "<!-- transcript: begin -->\n"
_END: Final = "<!-- transcript: end -->\n"


def output() -> str:
    """Return what the command shows, with a new database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_", "DESK", "COLUMNS"))}
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(  # noqa: S603 (our own program)
            [sys.executable, "-m", *shlex.split(COMMAND.replace("patter-trio", "patter_trio", 1))],
            cwd=ROOT,
            env={**kept, "DATABASE": str(Path(folder) / "restaurant.db")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def block(shown: str) -> str:
    """Return the part of the page for what the command has shown."""
    return f"{_BEGIN}```console\n$ {COMMAND}\n{shown}```\n{_END}"


def current() -> str:
    """Return that part of the page as it is."""
    page = PAGE.read_text(encoding="utf-8")
    return page[page.index(_BEGIN) : page.index(_END) + len(_END)]


def timeless(text: str) -> str:
    """Return a text without what differs from call to call: times, and the id of the call."""
    return re.sub(r"text-[0-9a-f]{16}", "text-#", re.sub(r"\d+\.\d\d s\b", "# s", text))


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(current(), block(output())), encoding="utf-8")

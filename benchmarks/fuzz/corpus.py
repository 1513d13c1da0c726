"""The corpus of kept inputs: one text file for each target, one input in base64 on each line."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("corpus")


def load(target: str) -> list[bytes]:
    """Return the inputs of a target."""
    file = FOLDER / f"{target}.txt"
    return [base64.b64decode(line) for line in file.read_text().splitlines()] if file.exists() else []


def save(target: str, inputs: Iterable[bytes]) -> int:
    """Keep these inputs, each once, the shortest first; return their number."""
    # In a fixed order, so that a diff of the corpus shows what is new.
    kept = sorted(set(inputs), key=lambda data: (len(data), data))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.txt").write_text("".join(f"{base64.b64encode(data).decode()}\n" for data in kept))
    return len(kept)


def unpack(inputs: Iterable[bytes], folder: Path) -> None:
    """Write inputs as files, as the fuzzer reads them."""
    for data in inputs:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

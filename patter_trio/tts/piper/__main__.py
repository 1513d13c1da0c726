"""Command ``python -m patter_trio.tts.piper "text" out.wav``: write a WAV of what a caller would hear."""

import sys
from collections.abc import Sequence
from pathlib import Path

from patter_trio.errors import PatterError
from patter_trio.tts.piper._tts import write_wav

_ARGUMENTS = 2


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status: 0, 1 if the file cannot be made, 2 for a mistake in the command."""
    if len(arguments) != _ARGUMENTS:
        print('usage: python -m patter_trio.tts.piper "text" out.wav', file=sys.stderr)
        return 2
    text, file = arguments
    try:
        write_wav(text, Path(file))
    # In one line, as the launcher does: a missing extra comes with the command that installs it.
    except (PatterError, OSError) as error:
        print(f"piper: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

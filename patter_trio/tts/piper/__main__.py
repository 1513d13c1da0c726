"""Command ``python -m patter_trio.tts.piper "text" out.wav``: write a WAV of what a caller would hear."""

import sys
from pathlib import Path

from patter_trio.tts.piper._tts import write_wav

if __name__ == "__main__":
    write_wav(sys.argv[1], Path(sys.argv[2]))

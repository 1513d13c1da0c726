"""The launcher, run as ``patter-trio`` or as ``python -m patter_trio``."""

import sys
from typing import Final

# 128 and the signal's number, as in shells; also in ``patter_trio.cli``, which may not be loaded yet.
INTERRUPT_EXIT_STATUS: Final = 130
"""Exit status after Ctrl-C before the command has begun."""


def main() -> int:
    """Run the command line; return its exit status."""
    try:
        # Here, because the imports take most of the first second, in which people press Ctrl-C, too.
        from patter_trio.cli import main as run  # noqa: PLC0415 (inside the try)

        return run()
    # From the imports: what the command line itself does about Ctrl-C, it has done by then.
    except KeyboardInterrupt:
        sys.stderr.write("\npatter-trio: stopped\n")
        return INTERRUPT_EXIT_STATUS


if __name__ == "__main__":
    sys.exit(main())

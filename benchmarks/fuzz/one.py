"""Fuzz one target until libFuzzer's options end it: ``python -m benchmarks.fuzz.one TARGET [options] [folders]``.

A program of its own, because the fuzzer never returns, and instruments what is imported after it.
"""

import logging
import sys

import atheris

INSTRUMENTED = ["patter_trio", "websockets", "h11", "hypercorn"]


def main() -> None:
    """Fuzz the target that the first argument names."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        from benchmarks.fuzz.targets import TARGETS  # noqa: PLC0415 (instrumented here)
    logging.getLogger("patter_trio").propagate = True
    name = sys.argv.pop(1)
    # The command with which libFuzzer starts itself again to reduce a corpus.
    sys.argv[0] = f"{sys.executable} -m benchmarks.fuzz.one {name}"
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


main()

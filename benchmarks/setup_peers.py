"""Make the environments of the other servers, each of its own, from the package registry.

``python -m benchmarks.setup_peers [--folder DIR] [NAME ...]``
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

# One environment for each: their dependencies need not agree with ours, or with each other. The
# versions are those of docs/benchmarks.md.
PEERS: Final = {
    "pipecat": ("pipecat-ai", ["pipecat-ai[websocket]==1.14.*", "uvicorn[standard]"]),
    "getpatter": ("getpatter", ["getpatter==0.7.*", "onnxruntime", "numpy"]),
}
"""The distribution and the requirements of each peer, by its name in the benchmarks."""
DEFAULT_FOLDER: Final = Path(__file__).parents[1] / ".peers"


def interpreter(folder: Path, name: str) -> Path:
    """Return the path of a peer's Python."""
    return folder / name / "bin" / "python"


def installed(folder: Path, name: str) -> str:
    """Return the installed version of a peer, or an empty string if it is not installed."""
    # Asked in the peer's own interpreter, which is the one that the benchmark runs.
    code = f"from importlib.metadata import version; print(version({PEERS[name][0]!r}))"
    try:
        found = subprocess.run([interpreter(folder, name), "-c", code], capture_output=True, text=True, check=True)
    # No environment, or none with this package: not installed.
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def make(folder: Path, name: str) -> None:
    """Make the environment of one peer."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
    pip = [interpreter(folder, name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS[name][1]], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.setup_peers", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", default=list(PEERS), metavar="NAME", help=f"of {', '.join(PEERS)}; default: all"
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    for name in options.names:
        make(options.folder, name)
        print(name, installed(options.folder, name))


if __name__ == "__main__":
    main()

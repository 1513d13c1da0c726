"""Programs in processes of their own: a test process has imported opentelemetry and cannot show what lacks it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALL = """
import sys
from patter_trio import Patter
from patter_trio.pytest_plugin import run
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.simulation.simulator import simulate_call

agent = Patter().agent(
    "...", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Good morning."]), tts=ScriptedTTS()
)

async def one_call():
    async with simulate_call(agent) as caller:
        await caller.speaks("Hello?", seconds=0.6)
        assert (await caller.hears()).text == "Good morning."

"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program; its log goes to stderr."""
    return child("-c", "import logging\nlogging.basicConfig()\n" + textwrap.dedent(code), **environment)


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run our interpreter without other ``OTEL_`` variables; a warning or an exit code other than 0 is an error."""
    # Without the coverage of the parent as well: it would import modules whose absence is the point.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PATTER_OTEL", "COV"))}
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        # Warnings are errors, as in the tests themselves.
        [sys.executable, "-W", "error", *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done

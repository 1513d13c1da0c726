"""``patter-trio run --tunnel``, with stand-ins on PATH for the programs that make tunnels."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from patter_trio.cli import USAGE_EXIT_STATUS, main
from tests.kit.cli import write_agent
from tests.kit.depth import few
from tests.kit.tunnels import CLOUDFLARED, URL, Tunnels

INSTALL = "a tunnel needs a program: install cloudflared"


@pytest.fixture
def tunnels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tunnels:
    return Tunnels(tmp_path / "bin", monkeypatch)


def launched(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "patter_trio", "run", *words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The suite may run in the background of a shell, which ignores SIGINT for what it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 (no threads here)
    )


@pytest.mark.parametrize("number", few([signal.SIGINT, signal.SIGTERM], 1))
def test_both_signals_stop_the_tunnel(tunnels: Tunnels, number: signal.Signals, tmp_path: Path) -> None:
    """``patter-trio run --tunnel`` prints the tunnel's URL; Ctrl-C and SIGTERM end it and leave no process."""
    tunnels.install("cloudflared", CLOUDFLARED)
    file = write_agent(tmp_path, phone="Twilio('AC1', 'hush'), webhook_url='old.example.com'")
    with launched("--tunnel", file) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or not lines[-1].startswith("Ctrl-C stops"):
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            assert f"    {URL}/webhooks/twilio/voice\n" in lines
            assert tunnels.runs("cloudflared")
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not tunnels.runs("cloudflared")


@pytest.mark.parametrize("number", few([signal.SIGINT, signal.SIGTERM], 1))
@pytest.mark.deep
def test_both_signals_stop_a_tunnel_that_opens(tunnels: Tunnels, number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM also end a command whose tunnel has no URL yet, and leave no process."""
    tunnels.install("cloudflared", "time.sleep(3600)")
    process = launched("--tunnel", "cloudflared", write_agent(tmp_path))
    with process:
        try:
            while not tunnels.runs("cloudflared"):
                assert process.poll() is None
            process.send_signal(number)
            # Less than the 30 s that the tunnel has.
            process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not tunnels.runs("cloudflared")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tunnel"], f"patter-trio: neither cloudflared nor ngrok is on PATH: {INSTALL}"),
        (["--tunnel", "ngrok", "--url", "a.example"], "patter-trio: --url and --tunnel cannot be used together"),
    ],
    ids=["nothing-installed", "two-addresses"],
)
def test_launcher_refuses_tunnels_in_one_line(
    tunnels: Tunnels, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tunnel that the launcher cannot open is one line and exit status 2."""
    assert main(["run", *words, write_agent(tmp_path), "--port", "0"]) == USAGE_EXIT_STATUS
    assert message in capsys.readouterr().err

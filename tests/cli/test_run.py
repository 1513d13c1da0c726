"""``patter-trio run``: what it announces, and how it ends."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from patter_trio import Patter
from patter_trio.cli import INTERRUPT_EXIT_STATUS, USAGE_EXIT_STATUS, main
from patter_trio.cli.run import _announce, _serve
from patter_trio.program import Program, load
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.twilio import SimulatedTwilio
from tests.kit.cli import write_agent

TWILIO = "carrier=Twilio(account_sid='AC1', auth_token='secret')"
REPORTS = "reported = []\ndef on_call_end(event): reported.append(event)"


def program(**options: str) -> Program:
    found = load(Path(write_agent(Path(), **options)))  # type: ignore[arg-type]
    assert isinstance(found, Program)
    return found


# What it announces ----------------------------------------------------------------------------------------------------
def announced(
    capsys: pytest.CaptureFixture[str], phone: str, address: tuple[str, int] = ("127.0.0.1", 8000)
) -> list[str]:
    _announce(program(phone=phone), address)
    return capsys.readouterr().out.splitlines()


def test_webhook_url_is_printed_for_the_carrier(capsys: pytest.CaptureFixture[str]) -> None:
    """The run command prints the webhook URL to give to the carrier."""
    assert announced(capsys, f"{TWILIO}, phone_number='+15550100002', webhook_url='agent.example.com'") == [
        "Listening on http://127.0.0.1:8000",
        "Give twilio this webhook for +15550100002 (a call comes in, HTTP POST):",
        "    https://agent.example.com/webhooks/twilio/voice",
        "Ctrl-C stops.",
    ]


def test_missing_webhook_url_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a webhook_url, the run command says that the carrier cannot reach the server."""
    assert announced(capsys, TWILIO) == [
        "Listening on http://127.0.0.1:8000",
        "Give twilio this webhook for your number (a call comes in, HTTP POST):",
        "    http://127.0.0.1:8000/webhooks/twilio/voice",
        "The carrier cannot reach that address: set Patter(webhook_url=...) to the public one, or give --tunnel.",
        "Ctrl-C stops.",
    ]


def test_missing_carrier_prints_how_to_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a carrier, the run command says how to call by simulation and how to set a carrier."""
    assert announced(capsys, "", ("::1", 8000)) == [
        "Listening on http://[::1]:8000",
        "No carrier is set: only the simulator can call. For a real number: Patter(carrier=Twilio(), ...)",
        "Try:  patter-trio simulate agent.py, or talk to it: patter-trio dev agent.py",
        "Ctrl-C stops.",
    ]


def test_ignored_ctrl_c_is_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    """A process that ignores Ctrl-C, as in the background of a script, announces that SIGTERM stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert announced(capsys, "")[-1] == "Ctrl-C is ignored, as for any process in the background; SIGTERM stops."


# Mistakes -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port_in_use_is_reported_in_one_line(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is reported in one line, and the exit status is 2."""
    file = write_agent(Path())
    assert main(["run", "--port", str(taken), file]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == (
        f"Loading ...\npatter-trio: port {taken} on 127.0.0.1 is in use: stop the program that uses it, or choose "
        "another port\n"
    )


def test_port_in_use_names_the_scripts_line(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use in a script that calls serve itself names the script's line."""
    write_agent(Path())
    Path("script.py").write_text(
        f"import trio, agent as my\nasync def main():\n    async with trio.open_nursery() as nursery:\n"
        f"        await nursery.start(lambda task_status: my.phone.serve(my.agent, port={taken}, "
        "task_status=task_status))"
    )
    assert main(["run", "script.py"]) == USAGE_EXIT_STATUS
    assert re.fullmatch(
        rf"patter-trio: script\.py, line 4: port {taken} on 127.0.0.1 is in use: .*\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--port", "65536"], "port must be a whole number from 0 to 65535, got 65536"),
        (["--port", "-1"], "port must be a whole number from 0 to 65535, got -1"),
        (["--port", "0", "--host", "203.0.113.1"], "host must be an address of this machine, got 203.0.113.1"),
    ],
)
def test_unusable_address_is_reported_in_one_line(
    option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port or host that cannot be used is reported in one line, and the exit status is 2."""
    assert main(["run", *option, write_agent(Path())]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == f"Loading ...\npatter-trio: {message}\n"


def test_unexpected_exception_keeps_its_traceback() -> None:
    """An unexpected exception of a provider passes through the command with its traceback."""
    more = "class Broken(ScriptedTTS):\n    async def prewarm(self): 1/0\nagent = attrs.evolve(agent, tts=Broken())"
    with pytest.raises(ExceptionGroup):
        main(["run", "--port", "0", write_agent(Path(), more=f"import attrs\n{more}")])


# How it ends ----------------------------------------------------------------------------------------------------------
async def until(true: Callable[[], bool]) -> None:
    """Wait until a condition holds that no event reports."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110 (no event reports it)
            await trio.sleep(0.01)


async def listening(phone: Patter, capsys: pytest.CaptureFixture[str]) -> int:
    """Return the port as soon as it is announced."""
    with trio.fail_after(10):
        text = ""
        while "Ctrl-C stops." not in text:
            await trio.sleep(0.01)
            text += capsys.readouterr().out
    found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
    assert found
    assert phone._call_servers
    return int(found.group(1))


def carrier_at(port: int, number: int = 1) -> SimulatedTwilio:
    return SimulatedTwilio(
        partial(trio.open_tcp_stream, "127.0.0.1", port),
        f"http://127.0.0.1:{port}",
        account_sid="AC1",
        auth_token="secret",
        call_sid=f"CA{number:032d}",
    )


def reported() -> list[dict[str, Any]]:
    ends: list[dict[str, Any]] = sys.modules["agent"].reported
    return ends


async def test_ctrl_c_without_calls_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C without live calls stops the server at once."""
    served = program(phone=TWILIO)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, served, "", 0)
            await listening(served.phone, capsys)
            os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err == "\nStopping.\n"
    assert not served.phone._call_servers


async def test_ctrl_c_hangs_up_with_on_call_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C hangs up the live call, and its on_call_end still comes."""
    served = program(phone=TWILIO, greeting="Hello.", more=REPORTS)
    with trio.fail_after(10):
        async with trio.open_nursery() as line, trio.open_nursery() as nursery:
            nursery.start_soon(_serve, served, "", 0)
            carrier = carrier_at(await listening(served.phone, capsys))
            await line.start(carrier.run)
            await until(lambda: bool(served.phone.calls))
            os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err == "\nStopping: 1 live call is being ended.\n"
    assert carrier.ended == "agent_hung_up"
    assert [(end["call_id"], end["outcome"]) for end in reported()] == [(carrier.call_id, "cancelled")]


async def test_ctrl_c_while_models_are_loaded_stops_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C stops the command while it still loads the models."""
    served = program(
        more="import trio\nclass Slow(ScriptedSTT):\n    async def prewarm(self): await trio.sleep_forever()\n"
        "agent = phone.agent('x', stt=Slow(), llm=agent.llm, tts=agent.tts)"
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, served, "", 0)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr() == ("", "Loading ...\n\nStopping.\n")


async def test_ignored_ctrl_c_stays_ignored(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that ignores SIGINT at its start goes on after Ctrl-C, and SIGTERM stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    served = program(phone=TWILIO)
    with caplog.at_level(logging.INFO), trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, served, "", 0)
            await until(lambda: bool(served.phone._call_servers))
            os.kill(os.getpid(), signal.SIGINT)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert served.phone._call_servers
            os.kill(os.getpid(), signal.SIGTERM)
    assert "Stopping" not in capsys.readouterr().err
    assert "SIGTERM: draining" in caplog.text


async def test_sigterm_drains_calls_and_refuses_new_ones(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """SIGTERM lets the live call finish and refuses new calls as busy."""
    served = program(phone=TWILIO, greeting="Hello.", more=REPORTS)
    with caplog.at_level(logging.INFO), trio.fail_after(10):
        async with trio.open_nursery() as line, trio.open_nursery() as nursery:
            nursery.start_soon(_serve, served, "", 0)
            port = await listening(served.phone, capsys)
            carrier = carrier_at(port)
            await line.start(carrier.run)
            await until(lambda: bool(served.phone.calls))
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: "SIGTERM" in caplog.text)
            with pytest.raises(CallRefused) as refused:
                await carrier_at(port, 2).run()
            assert refused.value.outcome == "busy"
            assert carrier.ended is None
            carrier.hang_up()
    assert "SIGTERM: draining; live calls: 1, with 30 s to end" in caplog.text
    assert [(end["call_id"], end["outcome"]) for end in reported()] == [(carrier.call_id, "caller_hung_up")]


# For real -------------------------------------------------------------------------------------------------------------
def launched(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "patter_trio", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen[str], until: str, number: signal.Signals) -> tuple[int, str]:
    """Read until a line begins so, send a signal, and return the exit status and the rest of what is printed."""
    with process:
        assert process.stdout is not None
        try:
            while not process.stdout.readline().startswith(until):
                assert process.poll() is None
            process.send_signal(number)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, rest


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "\nStopping.\n"), (signal.SIGTERM, r"\S+ INFO    SIGTERM: draining; .*\n")],
)
def test_both_signals_end_the_command_with_0(number: signal.Signals, said: str) -> None:
    """SIGINT and SIGTERM each end the command with exit status 0 and one line."""
    status, rest = ended(launched("run", "--port", "0", write_agent(Path())), "Ctrl-C stops", number)
    assert status == 0
    assert re.fullmatch(said, rest)


@pytest.mark.deep
def test_ctrl_c_in_script_prints_no_traceback() -> None:
    """Ctrl-C in a script that calls serve itself prints no traceback."""
    write_agent(Path())
    Path("script.py").write_text(
        "import trio, agent as my\nfrom functools import partial\nasync def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        await nursery.start(partial(my.phone.serve, my.agent, port=0))\n"
        "        print('Serving', flush=True)\n"
    )
    assert ended(launched("run", "script.py"), "Serving", signal.SIGINT) == (
        INTERRUPT_EXIT_STATUS,
        "\npatter-trio: stopped\n",
    )


def test_url_and_drain_reach_the_server() -> None:
    """The URL of --url is announced in place of the program's, and --drain is the time that live calls have to end."""
    file = write_agent(Path(), phone=f"{TWILIO}, webhook_url='old.example.com'")
    process = launched("run", "--port", "0", "--url", "new.example.com", "--drain", "7.5", file)
    assert process.stdout is not None
    announced: list[str] = []
    while not announced or not announced[-1].startswith("Ctrl-C stops"):
        announced.append(process.stdout.readline())
        assert announced[-1]
    assert "    https://new.example.com/webhooks/twilio/voice\n" in announced
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "with 7.5 s to end" in rest

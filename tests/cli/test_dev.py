"""``patter-trio dev``: what it announces and replaces, whom it lets call, and how it reloads."""

import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from patter_trio.cli import USAGE_EXIT_STATUS, main
from patter_trio.cli.dev import LOOK_INTERVAL_S, _loaded, _Served, changed, mistake_in, stand_ins, watched
from tests.kit.cli import write_agent
from tests.phone_page.test_phone_routes import own

CLOCK = trio.testing.MockClock
NO_CHANGE = 5.0


def options(**given: object) -> Namespace:
    return Namespace(**{"port": 0, "open": False, "reload": False, **given})


async def test_page_is_announced_and_served(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the page's URL, serves it without the program's carrier, and stops at Ctrl-C."""
    made_up = stand_ins()
    file = Path(write_agent(Path(), phone="carrier=Twilio(), webhook_url='agent.example.com'"))
    served = _Served(_loaded(file, made_up), options())
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            text = ""
            while "Ctrl-C stops." not in text:
                await trio.sleep(0.01)
                text += capsys.readouterr().out
            found = re.search(r"The browser phone of agent\.py: (http://127\.0\.0\.1:\d+)/phone/", text)
            assert found
            async with httpx.AsyncClient(base_url=found[1], trust_env=False) as client:
                assert (await client.get("/phone/program.json")).json()["file"] == "agent.py"
                assert (await client.post("/phone/calls", headers=own(client))).status_code == 200
                assert (await client.post("/webhooks/twilio/voice")).status_code == 403
            os.kill(os.getpid(), signal.SIGINT)
    assert not served.has_changed


def test_vendors_without_keys_are_replaced(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent of vendors without keys gets the local stack, and each replacement is said; one with a key keeps it."""
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    monkeypatch.setenv("ELEVENLABS_API_KEY", "mine")
    Path("agent.py").write_text(
        "from patter_trio import DeepgramSTT, ElevenLabsTTS, Patter\nphone = Patter()\n"
        "agent = phone.agent('Brief.', stt=DeepgramSTT(), tts=ElevenLabsTTS(voice_id='v'))\n"
        "async def on_message(event): return 'Yes.'\n"
    )
    agent = _loaded(Path("agent.py"), stand_ins()).agent
    assert agent.stt is None
    assert type(agent.tts).__name__ == "ElevenLabsTTS"
    assert capsys.readouterr().err == "DEEPGRAM_API_KEY is not set: the local recogniser listens instead.\n"


def test_missing_model_key_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a vendor has no local stand-in: the key that is missing is named in one line."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("agent.py").write_text(
        "from patter_trio import OpenAILLM, Patter\nphone = Patter()\nagent = phone.agent('Brief.', llm=OpenAILLM())\n"
    )
    assert main(["dev", "agent.py"]) == USAGE_EXIT_STATUS
    assert "agent.py, line 3: OpenAILLM: api_key= must be given, or the environment variable OPENAI_API_KEY set" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--open"], "--open and --reload belong to the browser phone: give --dev, or use patter-trio dev"),
        (["run", "--reload"], "--open and --reload belong to the browser phone: give --dev, or use patter-trio dev"),
        (["run", "--dev", "--host", "0.0.0.0"], "--host cannot be used with --dev, which serves only"),
        (["run", "--dev", "--tunnel"], "--tunnel cannot be used with --dev, which serves only"),
        (["dev", "--port", "65536"], "port must be a whole number from 0 to 65535, got 65536"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that contradict each other, and an impossible port, are reported in one line with status 2."""
    assert main([*arguments, write_agent(Path())]) == USAGE_EXIT_STATUS
    assert f"patter-trio: {message}" in capsys.readouterr().err


def written(name: str, text: str, at: float = 0.0) -> Path:
    Path(name).write_text(text)
    if at:
        os.utime(name, (at, at))
    return Path(name)


def trash(name: str) -> None:
    Path(name).unlink()


async def test_change_of_own_files_is_seen(autojump_clock: CLOCK) -> None:
    """The program and what it has imported from its folder are watched; a file that is just being replaced is not."""
    written("helper_of_dev.py", "X = 1\n")
    file = Path(write_agent(Path(), more="import helper_of_dev"))
    _loaded(file, stand_ins())
    files = watched(file)
    assert {name.name for name in files} >= {"agent.py", "helper_of_dev.py", ".env"}
    with trio.move_on_after(NO_CHANGE) as waited:
        await changed(files)
    assert waited.cancelled_caught
    trash("helper_of_dev.py")
    with trio.move_on_after(NO_CHANGE) as waited:
        await changed(files)
    assert waited.cancelled_caught
    written("helper_of_dev.py", "X = 1\n", at=1.0)
    began = trio.current_time()
    assert (await changed(files)).name == "helper_of_dev.py"
    assert trio.current_time() == began + LOOK_INTERVAL_S


def test_mistakes_are_found_before_loading() -> None:
    """A file with a syntax error has its mistake in one line; all else is for the new program to find out."""
    good = written("good.py", "raise RuntimeError('only when it runs')\n")
    assert mistake_in(good) == ""
    assert mistake_in(written("bad.py", "x = 1\ny = = 2\n")) == "bad.py, line 2: invalid syntax"
    assert mistake_in(written("null.py", "x = '\0'\n")).startswith("null.py")
    assert mistake_in(written("deep.py", "(" * 300 + "\n")).startswith("deep.py")
    assert mistake_in(Path("gone.py")) == ""
    assert mistake_in(written(".env", "this is no Python")) == ""


async def test_mistake_ends_no_call(capsys: pytest.CaptureFixture[str]) -> None:
    """A syntax error is reported to terminal and page, and the program goes on; the next version is loaded."""
    file = Path(write_agent(Path()))
    content = file.read_text()  # noqa: ASYNC240 (a small file)
    served = _Served(_loaded(file, stand_ins()), options(reload=True))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            while served.port == 0:  # noqa: ASYNC110 (the command reports it to nobody)
                await trio.sleep(0.01)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", trust_env=False) as client:
                before = (await client.get("/phone/program.json")).json()
                # Many quick saves, as of an editor that saves while somebody types.
                for number in range(5):
                    written("agent.py", f"{content}\ndef half{number}(", at=time.time() + number)
                    await trio.sleep(0.02)
                while not (told := (await client.get("/phone/program.json")).json())["mistake"]:  # noqa: ASYNC110 (HTTP)
                    await trio.sleep(0.05)
                assert "'(' was never closed" in told["mistake"]
                assert (told["boot"], told["reloading"]) == (before["boot"], False)
                assert (await client.post("/phone/calls", headers=own(client))).status_code == 200
                written("agent.py", content + "# right\n", at=time.time() + 20)
                while not (told := (await client.get("/phone/program.json")).json())["reloading"]:  # noqa: ASYNC110 (HTTP)
                    await trio.sleep(0.05)
                assert told["mistake"] == ""
            nursery.cancel_scope.cancel()
    assert served.has_changed
    assert "The version before goes on." in capsys.readouterr().err


async def test_mistake_in_another_file_still_counts(autojump_clock: CLOCK) -> None:
    """While one file has a mistake, a change of another one loads nothing; its own next version does."""
    written("helper_of_dev.py", "X = 1\n")
    file = Path(write_agent(Path(), more="import helper_of_dev"))
    content = file.read_text()  # noqa: ASYNC240 (a small file)
    served = _Served(_loaded(file, stand_ins()), options(reload=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served._reload)
        for number, (name, text) in enumerate(
            (("helper_of_dev.py", "X = (\n"), ("agent.py", content + "# right\n")), 1
        ):
            written(name, text, at=time.time() + 10 * number)
            await trio.sleep(2 * LOOK_INTERVAL_S)
            assert served._page.to_dict()["mistake"] == "helper_of_dev.py, line 1: '(' was never closed"
            assert not served.has_changed
        written("helper_of_dev.py", "X = 2\n", at=time.time() + 30)
        await trio.sleep(2 * LOOK_INTERVAL_S)
        assert (served._page.to_dict()["mistake"], served.has_changed) == ("", True)
        nursery.cancel_scope.cancel()


async def test_change_while_loading_counts(autojump_clock: CLOCK) -> None:
    """A file that was saved after the program had read it, and before it is served, is a change."""
    file = Path(write_agent(Path()))
    before = watched(file)
    program = _loaded(file, stand_ins())
    written("agent.py", "newer = True\n", at=time.time() + 2)
    served = _Served(program, options(), before)
    assert (await changed(served._files)).name == "agent.py"


def _until(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdout
    text = ""
    for read in process.stdout:
        text += read
        if line in read:
            return text
    raise AssertionError(text)


@pytest.mark.deep
@pytest.mark.no_coverage
def test_change_starts_the_command_anew() -> None:
    """A change ends the server, and the same port serves the new program; a mistake in it is waited out."""
    file = Path(write_agent(Path()))
    command = [sys.executable, "-m", "patter_trio", "dev", os.fspath(file), "--port", "0", "--reload"]
    with subprocess.Popen(  # noqa: S603 (our own command)
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            found = re.search(r"(http://\S+/phone/)", _until(process, "stops."))
            assert found
            before = httpx.get(f"{found[1]}program.json", trust_env=False).json()
            content = file.read_text()
            written("agent.py", content + "this is a mistake\n", at=time.time() + 1)
            _until(process, "goes on.")
            written("agent.py", content + "raise RuntimeError('a mistake at import')\n", at=time.time() + 2)
            assert "agent.py has changed: hanging up" in _until(process, "Waiting for a change")
            written("agent.py", content, at=time.time() + 4)
            assert found[1] in _until(process, "stops.")
            after = httpx.get(f"{found[1]}program.json", trust_env=False).json()
            assert after["boot"] != before["boot"]
        finally:
            process.terminate()

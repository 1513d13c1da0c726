"""A user's program: what is taken of it, and each mistake in one line that says where and what."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest
import trio

from patter_trio import ConfigurationError
from patter_trio.cli import INTERRUPT_EXIT_STATUS, USAGE_EXIT_STATUS, main
from patter_trio.program import Program, Script, load
from tests.kit.cli import write_agent

AGENT = "from patter_trio import Patter\nphone = Patter()\nagent = phone.agent('x')\n"
LOOP = "the program must not start an event loop while it is imported; put the call behind `if __name__ == '__main__':`"
NEEDS = "`phone = Patter(...)` and `agent = phone.agent(...)` at its top level, or"


def loaded(source: str, name: str = "agent.py") -> Program | Script:
    Path(name).write_text(source)
    return load(Path(name))


def program(source: str) -> Program:
    found = loaded(source)
    assert isinstance(found, Program)
    return found


# What is taken --------------------------------------------------------------------------------------------------------
def test_phone_agent_and_callbacks_are_found() -> None:
    """The launcher finds phone, agent and the functions named after callbacks."""
    found = program(
        AGENT
        + "async def on_message(event): ...\ndef on_call_end(event): ...\n"
        + "def on_agent_speech_ended(event): ...\ndef helper(): ...\n"
    )
    assert {name: callback.__name__ for name, callback in found.callbacks.items()} == {
        "on_message": "on_message",
        "on_call_end": "on_call_end",
    }
    edge = found.phone.on_agent_speech_ended
    assert edge is not None
    assert edge.__name__ == "on_agent_speech_ended"  # type: ignore[attr-defined]
    assert found.phone.on_audio_out is None


def test_on_message_may_be_a_url() -> None:
    """A program's on_message may be a URL, and any other string raises a ConfigurationError."""
    found = program(AGENT + "on_message = 'https://agent.example.com/hook'\non_call_end = 'no function'")
    assert found.callbacks == {"on_message": "https://agent.example.com/hook"}
    with pytest.raises(ConfigurationError, match=r"agent\.py: on_message must be a function or a URL"):
        loaded(AGENT + "on_message = 'agent.example.com'")


def test_callers_are_paths_beside_the_file() -> None:
    """The file names in callers are relative to the folder of the program."""
    Path("sub").mkdir()
    found = loaded(AGENT + "async def on_message(event): ...\ncallers = ['a.wav', 'b/c.wav']", "sub/agent.py")
    assert isinstance(found, Program)
    assert found.callers == (Path("sub/a.wav"), Path("sub/b/c.wav"))


@pytest.mark.parametrize("callers", ["'a.wav'", "5", "[5]"])
def test_invalid_callers_value_is_refused(callers: str) -> None:
    """A callers value that is not a list of file names raises ConfigurationError."""
    with pytest.raises(ConfigurationError, match=r"agent\.py: `callers` must be a list of WAV files, got"):
        loaded(AGENT + f"async def on_message(event): ...\ncallers = {callers}")


@pytest.mark.parametrize(
    "source",
    ["", "from patter_trio import Patter\nphone = Patter()\n", "phone = '+15550100002'\n"],
    ids=["neither", "a phone alone", "another phone"],
)
def test_async_main_runs_on_trio(source: str) -> None:
    """A file without phone and agent has its async main run on trio."""
    found = loaded(
        source
        + "import trio\nimport pathlib\nasync def main(): pathlib.Path('ran').write_text(str(trio.current_time() > 0))"
    )
    assert isinstance(found, Script)
    found.run()
    assert Path("ran").read_text() == "True"


def test_program_does_not_replace_loaded_modules() -> None:
    """A program named like a loaded module does not replace that module."""
    for name in ("json", "trio"):
        module = sys.modules.get(name)
        loaded("async def main(): ...", f"{name}.py")
        assert sys.modules.get(name) is module


def test_modules_beside_the_file_can_be_imported() -> None:
    """A program can import a module that lies beside it."""
    Path("beside_the_agent.py").write_text("words = 'hello'")
    found = loaded("import beside_the_agent\nasync def main(): assert beside_the_agent.words == 'hello'")
    assert isinstance(found, Script)
    found.run()


def test_dotenv_never_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher reads the .env beside the file, and the environment wins over it."""
    Path("sub").mkdir()
    Path("sub/.env").write_text("TWILIO_ACCOUNT_SID=AC-from-file\nTWILIO_AUTH_TOKEN=from-file\n")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "from-environment")
    # In the working directory: it is read, too, after the one beside the file.
    Path(".env").write_text("TWILIO_ACCOUNT_SID=AC-from-elsewhere\nONLY_HERE=1\n")
    source = (
        "from patter_trio import Patter, Twilio\nphone = Patter(Twilio())\nagent = phone.agent('x')\ndef "
        "on_message(e): ..."
    )
    found = loaded(source, "sub/agent.py")
    assert isinstance(found, Program)
    assert found.phone.carrier is not None
    assert found.phone.carrier.account_sid == "AC-from-file"  # type: ignore[attr-defined]
    assert found.phone.carrier.auth_token == "from-environment"  # type: ignore[attr-defined]
    assert os.environ["ONLY_HERE"] == "1"


def test_only_the_launcher_reads_env() -> None:
    """A program that is not started by the launcher does not get the variables of the .env file."""
    Path(".env").write_text("TWILIO_ACCOUNT_SID=AC-from-file\nTWILIO_AUTH_TOKEN=from-file\n")
    with pytest.raises(ConfigurationError, match="TWILIO_ACCOUNT_SID"):
        exec("from patter_trio import Twilio; Twilio()", {})  # noqa: S102 (a program that is not launched)


def test_defaults_fill_unset_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's defaults apply only where neither the environment nor .env has a value."""
    Path(".env").write_text("IN_FILE=file\n")
    monkeypatch.setenv("EMPTY", "")
    Path("agent.py").write_text("async def main(): ...")
    load(Path("agent.py"), {"IN_FILE": "default", "EMPTY": "default", "NOWHERE": "default"})
    assert [os.environ[name] for name in ("IN_FILE", "EMPTY", "NOWHERE")] == ["file", "default", "default"]


def test_callbacks_that_the_file_sets_stay() -> None:
    """A callback of a speech edge that the program has set itself is not replaced by its function of that name."""
    found = program(
        AGENT
        + "async def on_message(event): ...\ndef on_audio_out(event): ...\ndef on_llm_token(event): ...\n"
        + "from patter_trio import in_thread\nwrapped = phone.on_audio_out = in_thread(on_audio_out)"
    )
    assert found.phone.on_audio_out is sys.modules["agent"].wrapped
    assert found.phone.on_llm_token is sys.modules["agent"].on_llm_token


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_mesage", "on_message"),
        ("on_call_started", "on_call_start"),
        ("on_dtfm", "on_dtmf"),
        ("on_user_speach_started", "on_user_speech_started"),
    ],
)
def test_misspelt_callback_names_the_meant_one(name: str, meant: str) -> None:
    """A function whose name looks like a callback's raises an error that names that callback."""
    with pytest.raises(ConfigurationError, match=rf"got {name} \(did you mean {meant}\?\)$"):
        loaded(AGENT + f"async def on_message(event): ...\ndef {name}(event): ...")


@pytest.mark.parametrize("name", ["on_startup", "on_order", "on_hold_music"])
def test_other_on_functions_are_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another function that begins with on_ is taken for the program's own, and one log line says so."""
    found = program(AGENT + f"async def on_message(event): ...\ndef {name}(event): ...")
    assert list(found.callbacks) == ["on_message"]
    [line] = caplog.messages
    assert line.startswith(f"agent.py: {name} is not called: the callbacks are on_agent_speech_ended, ")


def test_missing_credential_says_where_it_was_sought() -> None:
    """An error about a missing credential names the .env files, and which of them do not exist."""
    Path("sub").mkdir()
    Path(".env").write_text("OTHER=1\n")
    with pytest.raises(
        ConfigurationError, match=r"TWILIO_ACCOUNT_SID set, also in sub/\.env \(no such file\) or \.env$"
    ):
        loaded("from patter_trio import Twilio\nTwilio()", "sub/agent.py")


# Mistakes -------------------------------------------------------------------------------------------------------------
MISTAKES = {
    "import error": ("import foo_bar", "agent.py, line 1: ModuleNotFoundError: No module named 'foo_bar'"),
    "syntax error": ("\nx = (\n", "agent.py, line 2: SyntaxError: '(' was never closed"),
    "exception": ("def f():\n    1/0\n\nf()", "agent.py, line 2: ZeroDivisionError: division by zero"),
    "exception in a library": (
        "import json\njson.loads('{')",
        (
            "agent.py, line 2: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1)"
        ),
    ),
    "exception without words": ("raise ValueError", "agent.py, line 1: ValueError"),
    "exception of many lines": ("raise ValueError('a\\n  b')", "agent.py, line 1: ValueError: a b"),
    "binary": ("\0", "agent.py: SyntaxError: source code string cannot contain null bytes"),
    "syntax error in text": ("\ncompile('(', 'x', 'exec')", "agent.py, line 2: SyntaxError: '(' was never closed"),
    "exit": ("import sys\nsys.exit(3)", "agent.py, line 2: the program exits while it is imported"),
    "exit with words": (
        "import sys\nsys.exit('set KEY')",
        "agent.py, line 2: the program exits while it is imported: set KEY",
    ),
    "no account": (
        "from patter_trio import Twilio\nTwilio()",
        "agent.py, line 2: Twilio: account_sid= must be given, or the environment variable TWILIO_ACCOUNT_SID set",
    ),
    "no secret": (
        "from patter_trio import Twilio\nTwilio(account_sid='AC1')",
        "agent.py, line 2: Twilio: auth_token= must be given, or the environment variable TWILIO_AUTH_TOKEN set",
    ),
    "unknown option": (
        "from patter_trio import Patter\nPatter().agent('x', foo=1)",
        "agent.py, line 2: TypeError: Agent() got an unexpected keyword argument 'foo'",
    ),
    "neither phone nor agent": ("x = 1", f"agent.py must have {NEEDS} an `async def main()`"),
    "no agent": (
        "from patter_trio import Patter\nphone = Patter()",
        "agent.py must have `agent = phone.agent(...)` at its top level, or an `async def main()`",
    ),
    "no phone": (
        "from patter_trio import Patter\nagent = Patter().agent('x')",
        "agent.py must have `phone = Patter(...)` at its top level, or an `async def main()`",
    ),
    "main is not async": (
        "def main(): ...",
        f"agent.py must have {NEEDS} `async def main()` (its main() is not async)",
    ),
    "no responder": (
        AGENT,
        (
            "agent.py: an agent must have exactly one of llm= (phone.agent's) and on_message= (serve's); this one has "
            "neither; in a file, `async def on_message(event)` is the latter"
        ),
    ),
    "misspelt callback": (AGENT + "def on_mesage(event): ...", "agent.py: the name of a callback must be one of on_"),
    "unset variable": (
        "import os\n\nNUMBER = os.environ['PHONE_NUMBER']",
        "agent.py, line 3: the environment variable PHONE_NUMBER must be set, also in .env (no such file)",
    ),
    "own KeyError": ("{}['PHONE_NUMBER']", "agent.py, line 1: KeyError: 'PHONE_NUMBER'"),
    "on_message without parameter": (
        AGENT + "async def on_message(): ...",
        "agent.py: on_message must be callable with (event) or (event, call_control), got on_message()",
    ),
    "plain generator": (
        AGENT + "def on_message(event): yield 'Hi.'",
        (
            "agent.py: on_message must be `async def` to yield the pieces of an answer, got the generator function "
            "on_message"
        ),
    ),
    "callback that yields": (
        AGENT + "async def on_message(event): ...\nasync def on_transcript(event): yield 1",
        "agent.py: on_transcript must be a function without yield, got the async generator function on_transcript",
    ),
    "speech callback without parameter": (
        AGENT + "async def on_message(event): ...\ndef on_audio_out(): ...",
        "agent.py: on_audio_out must be callable with (event) or (event, call_control), got on_audio_out()",
    ),
    "local models in German": (
        "from patter_trio import Patter\nphone = Patter()\nagent = phone.agent('x', language='de')",
        (
            "agent.py, line 3: language must be one that stt supports; WhisperSTT: the language of this model must be "
            "English, got 'de'; give another stt=, such as DeepgramSTT(), or WhisperSTT(path=...) of another model"
        ),
    ),
    "main raises": ("async def main():\n    1/0", "agent.py, line 2: ZeroDivisionError: division by zero"),
    "main's task raises": (
        (
            "import trio\nasync def t():\n    1/0\nasync def main():\n    async with trio.open_nursery() as n:\n"
            "        n.start_soon(t)"
        ),
        "agent.py, line 3: ZeroDivisionError: division by zero",
    ),
    "main wants arguments": (
        "async def main(x): ...",
        "agent.py: TypeError: main() missing 1 required positional argument: 'x'",
    ),
    "trio.run": ("import trio\nasync def m(): ...\ntrio.run(m)", f"agent.py, line 3: {LOOP}"),
    "asyncio.run": ("import asyncio\nasync def m(): ...\nasyncio.run(m())", f"agent.py, line 3: {LOOP}"),
    "anyio.run": ("import anyio\nasync def m(): ...\nanyio.run(m)", f"agent.py, line 3: {LOOP}"),
    "run, imported": ("from asyncio import run\nasync def m(): ...\nrun(m())", f"agent.py, line 3: {LOOP}"),
    "asyncio.Runner": (
        "import asyncio\nasync def m(): ...\nwith asyncio.Runner() as r: r.run(m())",
        f"agent.py, line 3: {LOOP}",
    ),
    "a loop of one's own": (
        (
            "import asyncio\nasync def m(): ...\nloop = asyncio.new_event_loop()\n"
            "try: loop.run_until_complete(m())\nfinally: loop.close()"
        ),
        f"agent.py, line 4: {LOOP}",
    ),
    "a loop for ever": (
        "import asyncio\nloop = asyncio.new_event_loop()\ntry: loop.run_forever()\nfinally: loop.close()",
        f"agent.py, line 3: {LOOP}",
    ),
    "a loop, all else caught": (
        "import trio\nasync def m(): ...\ntry:\n    trio.run(m)\nexcept Exception:\n    pass",
        f"agent.py, line 4: {LOOP}",
    ),
}


@pytest.mark.parametrize(("source", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_program_error_is_one_located_line(source: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error in the program is one line that says where it is, and the exit status is 2."""
    Path("agent.py").write_text(source)
    assert main(["run", "agent.py"]) == USAGE_EXIT_STATUS == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"patter-trio: {message}")
    assert err.count("\n") == 1


def test_error_in_sibling_module_names_it() -> None:
    """An error in a module beside the file names that module and its line."""
    Path("pkg").mkdir()
    Path("broken_beside.py").write_text("\n\n1/0")
    Path("pkg/__init__.py").write_text("def f(:\n")
    with pytest.raises(ConfigurationError, match=r"^broken_beside\.py, line 3: ZeroDivisionError"):
        loaded("import broken_beside")
    with pytest.raises(ConfigurationError, match=r"^pkg/__init__\.py, line 1: SyntaxError"):
        loaded("import pkg")


def test_error_in_installed_package_names_the_program() -> None:
    """An error inside an installed package names the line of the program that led to it."""
    packages = Path("venv/site-packages")
    packages.mkdir(parents=True)
    (packages / "installed_below.py").write_text("def f():\n    raise OSError('no')")
    with pytest.raises(ConfigurationError, match=r"^agent\.py, line 3: OSError: no$"):
        loaded("import sys\nsys.path.append('venv/site-packages')\nimport installed_below; installed_below.f()")


def test_symlinked_program_keeps_its_given_name() -> None:
    """An error in a program behind a symbolic link names the path that was given."""
    Path("real").mkdir()
    Path("link").symlink_to("real")
    with pytest.raises(ConfigurationError, match=r"^link/agent\.py, line 1: ZeroDivisionError"):
        loaded("1/0", "link/agent.py")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "FILE must exist, got missing.py"),
        (".", "FILE must be a program, got the directory ."),
        ("notes.txt", "the name of a program must end in .py, got notes.txt"),
    ],
)
def test_invalid_program_path_is_named(name: str, message: str) -> None:
    """A missing file, a directory or another file type raises an error that names it."""
    Path("notes.txt").write_text("hello")
    with pytest.raises(ConfigurationError) as caught:
        load(Path(name))
    assert str(caught.value) == message


def test_undecodable_dotenv_is_refused() -> None:
    """A .env file that is not UTF-8 raises ConfigurationError."""
    Path(".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"^\.env: .*utf-8"):
        loaded("async def main(): ...")


def test_event_loops_may_start_after_import() -> None:
    """Event loops can be started again once the program is imported."""

    async def nothing() -> None: ...

    found = loaded("from asyncio import run as kept\nasync def main(): ...")
    assert isinstance(found, Script)
    sys.modules["agent"].kept(nothing())
    asyncio.run(nothing())
    trio.run(nothing)


def test_event_loop_in_thread_may_start_during_import() -> None:
    """An event loop in another thread may start while the program is imported."""
    loaded(
        "import asyncio, threading\nran = []\nasync def m(): ran.append(1)\n"
        "t = threading.Thread(target=lambda: asyncio.run(m()))\nt.start()\nt.join()\nassert ran\nasync def main(): ..."
    )
    assert threading.active_count() >= 1


def test_a_program_that_was_interrupted_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    """A KeyboardInterrupt in a program ends the command with exit status 130 and one line."""
    Path("agent.py").write_text("raise KeyboardInterrupt")
    assert main(["run", "agent.py"]) == INTERRUPT_EXIT_STATUS == 130
    assert capsys.readouterr().err == "\npatter-trio: stopped\n"


def test_exit_status_of_main_is_kept() -> None:
    """A main that exits ends the command with the exit status that it asked for."""
    Path("agent.py").write_text("import sys\nasync def main(): sys.exit(7)")
    with pytest.raises(SystemExit) as caught:
        main(["run", "agent.py"])
    assert caught.value.code == 7


def test_debug_shows_where_a_mistake_came_from(caplog: pytest.LogCaptureFixture) -> None:
    """With --log-level debug the log has the traceback of a mistake in the program."""
    Path("agent.py").write_text("import json\njson.loads('{')")
    with caplog.at_level("DEBUG"):
        assert main(["run", "--log-level", "debug", "agent.py"]) == USAGE_EXIT_STATUS
    assert "raw_decode" in caplog.text


def test_phone_and_agent_win_over_main(caplog: pytest.LogCaptureFixture) -> None:
    """A file with phone and agent is served even if it also has a main, and one log line says so."""
    write_agent(Path(), more="async def main(): raise AssertionError")
    assert isinstance(load(Path("agent.py")), Program)
    assert caplog.messages == ["agent.py: main() is not run, because the launcher serves `phone` and `agent` itself"]

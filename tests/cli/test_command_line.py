"""The command line: what its words mean, in any order, and which of them are refused."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.__main__ import INTERRUPT_EXIT_STATUS
from patter_trio.__main__ import main as launch
from patter_trio.cli import USAGE_EXIT_STATUS, main, parser
from patter_trio.cli.command_line import Step
from tests.kit.cli import write_agent, write_sound

A, B = Step(recording=Path("a.wav")), Step(recording=Path("b.wav"))


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("bakery.py", ()),
        ("bakery.py --caller a.wav b.wav", [A, B]),
        ("bakery.py --caller a.wav --caller b.wav", [A, B]),
        ("--caller a.wav --caller b.wav bakery.py", [A, B]),
        ("--caller a.wav b.wav bakery.py", [A, B]),
        ("--caller a.wav bakery.py b.wav", [A, B]),
        ("--caller=a.wav bakery.py --caller=b.wav", [A, B]),
        ("--caller a.wav bakery.py --out made.py", [A]),
        ("bakery.py --say main.py --press 1# --caller a.wav", [Step(text="main.py"), Step(keys="1#"), A]),
        ("--press 1 --say Hello --press ab bakery.py", [Step(keys="1"), Step(text="Hello"), Step(keys="ab")]),
    ],
)
def test_steps_keep_their_order_around_the_file(words: str, steps: list[Step]) -> None:
    """Recordings, texts and keys become the caller's steps in their order, wherever FILE stands."""
    options = parser().parse_args(["simulate", *words.split()])
    assert (options.file, list(options.steps or ())) == (Path("bakery.py"), list(steps))


@given(st.lists(st.sampled_from(["a.wav", "b.wav"]), min_size=1, max_size=5), st.data())
def test_file_may_stand_among_recordings(files: list[str], data: st.DataObject) -> None:
    """FILE is found at each place among the recordings, and no recording is lost."""
    place = data.draw(st.integers(0, len(files)))
    words = [*files[:place], "bakery.py", *files[place:]]
    options = parser().parse_args(["simulate", "--caller", *words])
    assert options.file == Path("bakery.py")
    assert [step.recording for step in options.steps] == [Path(file) for file in files]


@pytest.mark.parametrize(
    "words",
    [
        "run --port 1 --port 2 bakery.py",
        "run --host a bakery.py --host a",
        "run --url a --url b bakery.py",
        "run --max-calls 1 --max-calls 1 bakery.py",
        "run --log-level info --log-level debug bakery.py",
        "simulate --interrupt-at 1 --interrupt-at 2 bakery.py",
        "simulate --calls 1 --calls 1 bakery.py",
        "simulate --out a --out b bakery.py",
        "simulate --from +15550100003 --from +15550100004 bakery.py",
        "simulate --carrier twilio --carrier twilio bakery.py",
    ],
)
def test_option_given_twice_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option with one value that is given twice is refused, also with the same value."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words.split())
    assert caught.value.code == USAGE_EXIT_STATUS
    assert ": may be given only once\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("simulate --callers a.wav bakery.py", "unknown option --callers (did you mean --caller?)"),
        ("simulate --call 3 bakery.py", "unknown option --call (did you mean --calls?)"),
        ("simulate bakery.py --interupt-at=3", "unknown option --interupt-at=3 (did you mean --interrupt-at?)"),
        ("run --prot 1 bakery.py", "unknown option --prot (did you mean --port?)"),
        ("run bakery.py other.py", "unknown arguments: other.py\n"),
        ("run bakery.py --zzz", "unknown option --zzz\n"),
        ("calls list bakery.py", "bakery.py (this command reads a call log, not a program; --log names it)\n"),
    ],
)
def test_unknown_option_names_the_meant_one(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option is refused with the usage of its command and the option that was meant; none is abbreviated."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words.split())
    assert caught.value.code == USAGE_EXIT_STATUS
    err = capsys.readouterr().err
    assert err.startswith(f"usage: patter-trio {words.split(maxsplit=1)[0]} ")
    assert message in err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("simulte bakery.py", "(did you mean simulate?)\n"),
        ("simulate bakery.py --log-level wraning", "(did you mean warning?)\n"),
        ("telephone bakery.py", ")\n"),
    ],
    ids=["command", "choice", "unlike"],
)
def test_misspelt_word_names_the_meant_one(words: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt command or choice is refused with the one that was meant, behind the list of all."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words.split())
    assert caught.value.code == USAGE_EXIT_STATUS
    line = capsys.readouterr().err
    assert line.endswith(hint)
    assert line.count("did you mean") == hint.count("did you mean")


@pytest.mark.parametrize(
    "option", [["--port", "9000"], ["--host", "0.0.0.0"], ["--url", "a.example"], ["--max-calls", "3"]]
)
def test_server_options_need_a_served_program(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option of the server is refused, before anything runs, for a program with a main of its own."""
    Path("agent.py").write_text("async def main(): raise AssertionError")
    assert main(["run", "agent.py", *option]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == (
        f"patter-trio: {option[0]} cannot be used with agent.py: its main() serves calls itself; pass them to serve() "
        "there\n"
    )


def test_defaults_of_server_options_are_allowed() -> None:
    """A program with a main of its own runs if no option of the server is given."""
    Path("agent.py").write_text("from pathlib import Path\nasync def main(): Path('ran').touch()")
    assert main(["run", "agent.py", "--log-level", "debug"]) == 0
    assert Path("ran").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--from", "555 1234"], "--from must be a number in E.164 such as +15550100003, got '555 1234'"),
        (["simulate", "--press", "1x"], "--press must be keys of a telephone (0-9, *, #, A-D), got 'x'"),
        (["simulate", "--press", "q"], "--press must be keys of a telephone (0-9, *, #, A-D), got 'q'"),
        (["simulate", "--press", ""], "--say and --press must have a text and keys, got ''"),
        (["simulate", "--say", "..."], "--say and --press must have a text and keys, got '...'"),
        (
            ["simulate", "--press", "1", "--caller", "one.wav", "--interrupt-at", "1"],
            "--interrupt-at needs a first turn of the caller that is spoken, got --press",
        ),
        (["run", "--drain", "-1"], "--drain must be a number of seconds of at least 0, got -1"),
        (["run", "--drain", "nan"], "--drain must be a number of seconds of at least 0, got nan"),
        (["run", "--max-calls", "-1"], "--max-calls must be at least 0, got -1"),
        (
            ["run", "--url", "ftp://a.example"],
            (
                "the public URL must be an http or https URL such as https://agent.example.com, got a URL that begins "
                "with ftp:"
            ),
        ),
    ],
)
def test_invalid_value_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that means nothing is reported in one line with exit status 2, before anything is loaded or served."""
    write_sound(Path("one.wav"))
    program = write_agent(Path(), greeting="Hi.")
    assert main([arguments[0], program, *arguments[1:]]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err.removeprefix("Loading ...\n").startswith(f"patter-trio: {message}")


class _PressesKeys:
    """An import hook that stands for Ctrl-C while the command line is loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "patter_trio.cli":
            raise KeyboardInterrupt


def test_interrupted_imports_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while a command is loaded ends it with one line and status 130, as it does later."""
    monkeypatch.delitem(sys.modules, "patter_trio.cli")
    monkeypatch.setattr(sys, "meta_path", [_PressesKeys(), *sys.meta_path])
    assert launch() == INTERRUPT_EXIT_STATUS
    assert capsys.readouterr().err == "\npatter-trio: stopped\n"

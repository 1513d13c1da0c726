"""``patter-trio number``: what it shows, and that it changes nothing without a yes."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from patter_trio.cli import USAGE_EXIT_STATUS, main
from patter_trio.testing.servers.plivo_rest import serve_plivo_rest
from patter_trio.testing.servers.twilio_rest import TwilioRESTServer, serve_twilio_rest
from tests.kit.beside import beside
from tests.kit.cli import write_agent

SID, TOKEN, NUMBER, OTHER = "AC" + "1" * 32, "hush", "+15550100002", "+15550100003"
HERE = "https://agent.example.com"
VOICE, STATUS = f"{HERE}/webhooks/twilio/voice", f"{HERE}/webhooks/twilio/status"


@pytest.fixture
def rest() -> Iterator[TwilioRESTServer]:
    """Twilio's REST API, with one number that sends its calls elsewhere."""
    with beside(partial(serve_twilio_rest, SID, TOKEN)) as server:
        server.numbers[NUMBER] = {
            "sid": "PN" + "2" * 32,
            "phone_number": NUMBER,
            "voice_url": "https://old.example.com/voice",
            "status_callback": None,
            "voice_application_sid": None,
            "trunk_sid": None,
        }
        yield server


def program(rest: TwilioRESTServer, token: str = TOKEN, **options: str) -> str:
    given = {"phone_number": NUMBER, "webhook_url": "agent.example.com", **options}
    carrier = f"Twilio({SID!r}, {token!r}, api_url={rest.api_url!r})"
    return write_agent(Path(), phone=f"{carrier}, **{given!r}")


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def changes(rest: TwilioRESTServer) -> list[str]:
    return [request.target for request in rest.requests if request.method == "POST"]


def test_show_prints_where_calls_go(rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` prints both webhooks of the number and that they are not this server's, and changes nothing."""
    file = program(rest)
    assert main(["number", "show", file]) == 0
    assert capsys.readouterr().out == (
        f"{NUMBER} at twilio sends\n"
        "    its calls to    https://old.example.com/voice\n"
        "    their status to nowhere: no URL is set\n"
        f"Its calls do not come here, to {VOICE}. To change that: patter-trio number point {file}\n"
    )
    assert not changes(rest)


def test_show_knows_its_own_webhook(rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A webhook is this server's also with a query of the application's behind it."""
    rest.numbers[NUMBER]["voice_url"] = f"{VOICE}?desk=2"
    assert main(["number", "show", program(rest)]) == 0
    assert capsys.readouterr().out.endswith("Its calls come here.\n")


def test_point_changes_after_a_yes(
    rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``point`` shows what is set and what it would set, asks, and sets both webhooks after a yes."""
    answer(monkeypatch, "y\n")
    assert main(["number", "point", program(rest)]) == 0
    assert rest.numbers[NUMBER]["voice_url"] == VOICE
    assert rest.numbers[NUMBER]["status_callback"] == STATUS
    assert capsys.readouterr().out == (
        f"{NUMBER} at twilio sends\n"
        "    its calls to    https://old.example.com/voice\n"
        "    their status to nowhere: no URL is set\n"
        f"It would be changed to\n    its calls to    {VOICE}\n    their status to {STATUS}\n"
        f"Change it? [y/N] Changed. {NUMBER} at twilio now sends\n"
        f"    its calls to    {VOICE}\n    their status to {STATUS}\n"
    )


@pytest.mark.parametrize("text", ["n\n", "\n", "yess\n"])
def test_any_other_answer_changes_nothing(
    rest: TwilioRESTServer, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any answer but y or yes leaves the number as it is, and the exit status is 1."""
    answer(monkeypatch, text)
    assert main(["number", "point", program(rest)]) == 1
    assert capsys.readouterr().out.endswith("Nothing was changed.\n")
    assert not changes(rest)


def test_without_terminal_nothing_is_changed(
    rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anybody who could answer, nothing is changed, and the message names --yes."""
    answer(monkeypatch, "")
    assert main(["number", "point", program(rest)]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == "patter-trio: --yes must be given where nobody can answer\n"
    assert not changes(rest)


def test_yes_and_url_need_no_question(rest: TwilioRESTServer) -> None:
    """With --yes nothing is asked, and --url takes the place of the program's webhook_url."""
    assert main(["number", "point", program(rest), NUMBER, "--url", "https://new.example.com", "--yes"]) == 0
    assert rest.numbers[NUMBER]["voice_url"] == "https://new.example.com/webhooks/twilio/voice"


class Stuck(dict[str, str | None]):
    """The fields of a number that keep what they have."""

    def update(self, *_: Any, **__: Any) -> None:
        """Change nothing."""


def test_change_that_was_not_made_is_an_error(rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that answers with the old URLs has changed nothing: the command fails and says where calls go."""
    rest.numbers[NUMBER] = Stuck(rest.numbers[NUMBER])
    assert main(["number", "point", program(rest), "--yes"]) == USAGE_EXIT_STATUS
    shown = capsys.readouterr()
    assert "Changed." not in shown.out
    assert "twilio accepted the change and did not make it" in shown.err
    assert "sends its calls to https://old.example.com/voice" in shown.err


@pytest.mark.parametrize(
    ("url", "doubt"),
    [
        ("http://localhost:8000", "http://localhost:8000/webhooks/twilio/voice is not https"),
        ("nonsense", "https://nonsense/webhooks/twilio/voice leads to nonsense, a name without a domain"),
    ],
)
def test_url_that_no_carrier_reaches_is_doubted(
    url: str, doubt: str, rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A URL that no carrier can use is set, because the program may know better, and warned of before."""
    assert main(["number", "point", program(rest), "--url", url, "--yes"]) == 0
    assert f"warning: {doubt}" in capsys.readouterr().err


def test_a_number_that_points_here_stays(rest: TwilioRESTServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that sends its calls here already is not set again."""
    rest.numbers[NUMBER] |= {"voice_url": VOICE, "status_callback": STATUS}
    assert main(["number", "point", program(rest)]) == 0
    assert capsys.readouterr().out.endswith("Its calls come here already: nothing to change.\n")
    assert not changes(rest)


@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({}, [OTHER], "the Twilio account must have the number +1555***0003; it does not"),
        (
            {"token": "wrong"},
            [],
            "answered 401 Reason): copy them again from twilio's console, into the environment or .env",
        ),
        ({"phone_number": ""}, [], "the number must be given: behind agent.py, or as Patter(phone_number=...)"),
        ({}, ["0123"], "NUMBER must be a number in E.164 such as +15550100002, got '0123'"),
        ({"webhook_url": ""}, ["--yes"], "the public URL must be given: --url https://..., or Patter(webhook_url=...)"),
        ({}, ["--yes", "--url", "https://a b"], "the public URL must be a URL with a host and without spaces"),
    ],
    ids=["not-ours", "credentials", "no-number", "not-a-number", "no-url", "bad-url"],
)
def test_mistakes_are_one_line(
    rest: TwilioRESTServer,
    options: dict[str, str],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the command cannot do is one line on stderr and exit status 2, and nothing is changed."""
    assert main(["number", "point", program(rest, **options), *words]) == USAGE_EXIT_STATUS
    error = capsys.readouterr().err
    assert error.startswith("patter-trio: ")
    assert message in error
    assert error.count("\n") == 1
    assert not changes(rest)


def test_a_carrier_must_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    """A program without a carrier has no number to ask about."""
    assert main(["number", "show", write_agent(Path()), NUMBER]) == USAGE_EXIT_STATUS
    assert "agent.py: the phone must have a carrier" in capsys.readouterr().err


def test_a_carrier_may_be_unable(capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier of the application's own that cannot look up numbers says so."""
    more = "from patter_trio.abc import Carrier\nclass Mine(Twilio):\n    number_setup = Carrier.number_setup\n"
    file = write_agent(Path(), more=f"{more}phone = Patter(Mine({SID!r}, 'x'), {NUMBER!r})")
    assert main(["number", "show", file]) == USAGE_EXIT_STATUS
    assert capsys.readouterr().err == f"patter-trio: Mine cannot look up numbers: {NUMBER}\n"


def test_plivo_number_is_shown_and_pointed(capsys: pytest.CaptureFixture[str]) -> None:
    """A number at Plivo is shown and changed by the same commands, and is then found to come here."""
    with beside(partial(serve_plivo_rest, "MA1", TOKEN, numbers={NUMBER[1:]: ""})) as rest:
        given = {"phone_number": NUMBER, "webhook_url": "agent.example.com"}
        file = write_agent(Path(), phone=f"Plivo('MA1', {TOKEN!r}, api_url={rest.api_url!r}), **{given!r}")
        assert main(["number", "point", "--yes", file]) == 0
        capsys.readouterr()
        assert main(["number", "show", file]) == 0
        assert capsys.readouterr().out == (
            f"{NUMBER} at plivo sends\n"
            f"    its calls to    {HERE}/webhooks/plivo/voice\n"
            f"    their status to {HERE}/webhooks/plivo/status\n"
            "Its calls come here.\n"
        )
        assert main(["number", "point", "--yes", file]) == 0
        assert capsys.readouterr().out.endswith("nothing to change.\n")

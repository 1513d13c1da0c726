"""The phone: what it takes, what it refuses and how, where it listens, and how it stops."""

import asyncio
import inspect
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import ConfigurationError, Patter, Twilio
from patter_trio.agent.agent import ELSEWHERE
from patter_trio.events.payloads import EDGES
from patter_trio.testing import CallRefused, ScriptedTTS, SimulatedTwilio
from tests.kit.call import agent_of

SID, TOKEN = "AC" + "0" * 32, "hush"


def phone_of(**options: Any) -> Patter:
    # Requests find nobody at that port of this machine, and fail at once.
    return Patter(carrier=Twilio(SID, TOKEN, api_url="http://127.0.0.1:1"), **options)


def caller_of(address: tuple[str, int], number: int = 1, public: str = "") -> SimulatedTwilio:
    host, port = address
    return SimulatedTwilio(
        partial(trio.open_tcp_stream, host, port),
        public or f"http://{host}:{port}",
        account_sid=SID,
        auth_token=TOKEN,
        call_sid=f"CA{number:032d}",
    )


# What is refused ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda phone: Patter(webhok_url="x"),
            r"Patter() got an unexpected keyword argument 'webhok_url' (did you mean webhook_url?)",
        ),
        (
            lambda phone: Patter(port=8000),
            "Patter() got an unexpected keyword argument 'port': it belongs to phone.serve(...)",
        ),
        (lambda phone: Patter(llm=None), "'llm': it belongs to phone.agent(...)"),
        (
            lambda phone: phone.agent("x", first_mesage="y"),
            "Agent() got an unexpected keyword argument 'first_mesage' (did you mean first_message?)",
        ),
        (lambda phone: phone.agent("x", on_message=print), "'on_message': it belongs to phone.serve(...)"),
        (
            lambda phone: phone.agent("x", on_llm_token=print),
            "'on_llm_token': it belongs to the phone: phone.on_llm_token = ...",
        ),
        (lambda phone: phone.agent("x", webhook_url="x"), "'webhook_url': it belongs to Patter(...)"),
        (
            lambda phone: phone.serve(None, on_mesage=print),
            "serve() got an unexpected keyword argument 'on_mesage' (did you mean on_message?)",
        ),
        (lambda phone: phone.serve(None, first_message="x"), "'first_message': it belongs to phone.agent(...)"),
        (
            lambda phone: phone.serve(None, on_audio_out=print),
            "'on_audio_out': it belongs to the phone: phone.on_audio_out = ...",
        ),
        (lambda phone: phone.serve(None, elephant=1), "unexpected keyword argument 'elephant'"),
    ],
    ids=[
        "phone-misspelt",
        "phone-of-serve",
        "phone-of-agent",
        "agent-misspelt",
        "agent-of-serve",
        "agent-edge",
        "agent-of-phone",
        "serve-misspelt",
        "serve-of-agent",
        "serve-edge",
        "serve-unknown",
    ],
)
def test_unknown_keywords_are_hinted_at(make: Callable[[Patter], object], said: str) -> None:
    """An unknown keyword of a phone, an agent or a server is a TypeError that says what to write, and where."""
    with pytest.raises(TypeError, match=f"{re.escape(said)}$"):
        make(Patter())


def test_agents_know_where_foreign_options_belong() -> None:
    """An agent's table of options that belong elsewhere has all options of the phone, its servers and its edges.

    The table names the server for an option of both.
    """
    serve = set(inspect.signature(Patter.serve).parameters) - {"self", "agent", "task_status"}
    phone = set(inspect.signature(Patter).parameters)
    assert ELSEWHERE.keys() == serve | phone | {f"on_{edge}" for edge in EDGES}
    assert {name for name, place in ELSEWHERE.items() if place == "phone.serve(...)"} == serve
    assert {name for name, place in ELSEWHERE.items() if place == "Patter(...)"} == phone - serve


def test_a_carrier_must_be_one() -> None:
    """A carrier given as a string raises a ConfigurationError with an example of a carrier."""
    with pytest.raises(ConfigurationError, match=r"carrier must be a carrier such as Twilio\(\), got str: 'twilio'"):
        Patter(carrier="twilio")  # type: ignore[arg-type]


def responder(event: dict[str, Any]) -> str:
    return ""


@pytest.mark.parametrize(
    ("agent", "callbacks", "message"),
    [
        (agent_of(llm=None), {}, r"exactly one of llm= .* and on_message= .*; this one has neither"),
        (agent_of(), {"on_message": responder}, "this one has both"),
        (agent_of(), {"on_call_end": "https://example.com"}, "on_call_end must be a function, got str: 'https://exam"),
        ("agent", {}, r"agent must be an Agent such as phone.agent\(\.\.\.\) returns, got str: 'agent'"),
    ],
)
async def test_unservable_configuration_fails_before_opening_anything(
    agent: Any, callbacks: dict[str, Any], message: str
) -> None:
    """The phone reports a configuration that it cannot serve before it opens anything."""
    with socket.socket() as taken:  # a port in use would be the next thing to go wrong
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match=message):
            await Patter().serve(agent, port=taken.getsockname()[1], **callbacks)


@pytest.mark.parametrize(
    "options",
    [
        {"port": "8000"},
        {"port": True},
        {"port": 65536},
        {"port": -1},
        {"port": 8000.0},
        {"max_calls": "5"},
        {"max_calls": -1},
        {"max_calls": True},
        {"max_lag": "0.1"},
        {"max_lag": float("nan")},
        {"drain_timeout": None},
        {"drain_timeout": -1},
    ],
    ids=str,
)
async def test_numbers_of_serve_are_checked(options: dict[str, Any]) -> None:
    """A number given to serve() that is of another type or out of its range is an error that names it."""
    [(name, value)] = options.items()
    with pytest.raises(ConfigurationError, match=f"{name} must be .*, got {value!r}"):
        await Patter().serve(agent_of(), **options)


async def test_port_may_be_positional(bounded: None) -> None:
    """serve(agent, port) is the call shape of the published SDK."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(Patter().serve, agent_of(), 0)
        assert address[1] > 0
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_said_barely() -> None:
    """A port in use makes serve() raise a ConfigurationError, in no exception group, that names port and host."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            await Patter().serve(agent_of(), port=port)


@pytest.mark.parametrize("url", ["ftp://agent.example.com", "https://", "https://a.example/?x=1", "wss://a.example"])
async def test_invalid_webhook_url_raises_and_opens_nothing(url: str) -> None:
    """An invalid webhook_url raises ConfigurationError, and nothing stays open."""
    with pytest.raises(ConfigurationError, match="the public URL must be "):
        await phone_of(webhook_url=url).serve(agent_of(), port=0)


def test_serve_under_asyncio_raises_one_line_hint() -> None:
    """Under asyncio, serve raises one line that states what to write for trio."""
    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(Patter().serve(agent_of(), port=0))
    assert str(raised.value) == (
        "patter_trio runs on trio, not asyncio: for asyncio.run(main()) write trio.run(main), "
        "for asyncio.run(phone.serve(agent, port=8000)) write trio.run(partial(phone.serve, agent, port=8000))"
    )


# Where it is reached --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "address", "public"),
    [
        ("agent.example.com", ("127.0.0.1", 8000), "https://agent.example.com"),
        ("agent.example.com/base/", ("127.0.0.1", 8000), "https://agent.example.com/base"),
        ("http://agent.example.com:81", ("127.0.0.1", 8000), "http://agent.example.com:81"),
        ("", ("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        ("", ("::1", 8000), "http://[::1]:8000"),
    ],
)
def test_the_public_url(given: str, address: tuple[str, int], public: str) -> None:
    """The public URL is webhook_url with https:// by default, or the local address if there is no webhook_url."""
    assert Patter(webhook_url=given).public_url(address) == public


async def test_it_reports_its_address_when_it_really_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """serve() reports its address once it accepts connections there, and host= overrides PATTER_BIND_HOST."""
    monkeypatch.setenv("PATTER_BIND_HOST", "127.0.0.2")
    for options, expected in (({}, "127.0.0.2"), ({"host": "127.0.0.1"}, "127.0.0.1")):
        async with trio.open_nursery() as nursery:
            host, port = await nursery.start(partial(Patter().serve, agent_of(), port=0, **options))
            assert host == expected
            with socket.create_connection((host, port), timeout=5):
                pass
            nursery.cancel_scope.cancel()
        with pytest.raises(ConnectionRefusedError), socket.create_connection((host, port), timeout=5):
            pass


async def test_missing_webhook_url_warns_with_local_address(caplog: pytest.LogCaptureFixture) -> None:
    """Without a webhook_url, the phone warns once and names the local address that the carrier is to use."""
    ports: list[int] = []
    for phone in (phone_of(), Patter(), phone_of(webhook_url="agent.example.com")):
        async with trio.open_nursery() as nursery:
            _, port = await nursery.start(partial(phone.serve, agent_of(), port=0))
            ports.append(port)
            nursery.cancel_scope.cancel()
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"webhook_url is not set: the carrier must reach us at http://127.0.0.1:{ports[0]}" in record.message


def test_repr_shows_carrier_number_and_calls() -> None:
    """The repr of a phone shows its carrier, its number and its live calls."""
    assert repr(Patter()) == "<Patter local without number, 0 calls>"
    assert repr(phone_of(phone_number="+15550100002")) == "<Patter twilio +15550100002, 0 calls>"


@pytest.fixture
async def bounded() -> AsyncIterator[None]:
    """What goes wrong on real sockets may wait for ever."""
    with trio.fail_after(20):
        yield


# Calls on real sockets ------------------------------------------------------------------------------------------------
async def test_calls_beyond_max_calls_hear_busy(bounded: None) -> None:
    """Calls beyond max_calls hear busy, even while the earlier calls are still connecting."""
    phone = phone_of()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, max_calls=1))
        first = caller_of(address, 1)
        announced = await first.announce()  # announced, and its stream not yet there
        with pytest.raises(CallRefused) as raised:
            await caller_of(address, 2).run()
        assert raised.value.outcome == "busy"
        await first.announce()  # a webhook that is tried again is not a second call
        assert announced.url.startswith(f"ws://{address[0]}:{address[1]}/ws/twilio/stream/CA")
        await nursery.start(first.run)
        with pytest.raises(CallRefused):
            await caller_of(address, 3).run()
        first.hang_up()
        await first.over.wait()
        while phone.calls:
            await trio.lowlevel.checkpoint()
        fourth = caller_of(address, 4)
        await nursery.start(fourth.run)
        nursery.cancel_scope.cancel()


async def test_draining_finishes_calls_and_rejects_new_ones(bounded: None) -> None:
    """Draining lets the running calls finish and accepts no new call."""
    phone, ends = phone_of(), []
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, on_call_end=ends.append))
        caller = caller_of(address)
        await nursery.start(caller.run)
        while not phone.calls:
            await trio.lowlevel.checkpoint()
        nursery.start_soon(phone.drain)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert caller.ended is None
        with pytest.raises(CallRefused) as raised:
            await caller_of(address, 2).run()
        assert raised.value.outcome == "busy"
        caller.hang_up()
        await caller.over.wait()
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    assert not phone._call_servers


async def test_serve_reports_turn_metrics_and_call_end_totals(bounded: None) -> None:
    """A greeting that the caller's hang-up cuts is in on_metrics as turn 0 and in the totals of on_call_end."""
    turns: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    pricing = {"twilio": {"price": 1.0, "streams": 0}}
    phone = phone_of(pricing=pricing)
    agent = agent_of(first_message="Good evening.", tts=ScriptedTTS(first_audio=0.0))
    async with trio.open_nursery() as nursery:
        serve = partial(phone.serve, agent, port=0, on_metrics=turns.append, on_call_end=ends.append)
        caller = caller_of(await nursery.start(serve))
        await nursery.start(caller.run)
        while not any(arrival.audio for arrival in caller.arrivals):
            await trio.lowlevel.checkpoint()
        caller.hang_up()
        await caller.over.wait()
        await phone.drain()
    (reported,) = turns
    assert (reported["turn"].turn_index, reported["turn"].interrupted) == (0, True)
    assert reported["turn"].latency.tts_ms is not None
    assert reported["cost_so_far"].telephony == 1.0  # a begun minute
    assert ends[0]["metrics"].turns == (reported["turn"],)
    assert ends[0]["metrics"].cost.total == 1.0


async def test_a_drain_has_an_end(bounded: None) -> None:
    """drain(0.0) hangs up a running call at once, and on_call_end has the outcome cancelled."""
    phone, ends = phone_of(), []
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, on_call_end=ends.append))
        caller = caller_of(address)
        await nursery.start(caller.run)
        while not phone.calls:
            await trio.lowlevel.checkpoint()
        await phone.drain(0.0)
        await caller.over.wait()
    assert (caller.ended, [end["outcome"] for end in ends]) == ("agent_hung_up", ["cancelled"])


async def test_drain_returns_at_once_without_serving(bounded: None) -> None:
    """Draining a phone that serves nothing returns at once."""
    await Patter().drain()


async def test_cancelling_serve_ends_calls_and_reports_them(bounded: None) -> None:
    """Cancelling serve ends every call at once and reports the end of each."""
    phone, ends = phone_of(), []

    async def on_call_end(event: dict[str, Any]) -> None:
        await trio.sleep(0.01)
        ends.append((event["call_id"][-1], event["outcome"]))

    callers = []
    async with trio.open_nursery() as line, trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, on_call_end=on_call_end))
        for number in (1, 2):
            callers.append(caller_of(address, number))
            await line.start(callers[-1].run)
        while len(phone.calls) < 2:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sorted(ends) == [("1", "cancelled"), ("2", "cancelled")]
    assert [caller.ended for caller in callers] == ["agent_hung_up", "agent_hung_up"]
    assert phone.calls == ()


async def test_sigterm_drains(bounded: None) -> None:
    """SIGTERM right after the start ends serve(), which restores the signal handler of before."""
    phone, before = phone_of(), signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(phone.serve, agent_of(), port=0))
        os.kill(os.getpid(), signal.SIGTERM)  # right away: once it listens, it may be stopped
    assert signal.getsignal(signal.SIGTERM) is before


async def test_serve_works_in_thread_without_signals(bounded: None) -> None:
    """The phone also serves in another thread, where signals are not available."""
    reached: list[tuple[str, int]] = []

    async def serves() -> None:
        async with trio.open_nursery() as nursery:
            reached.append(await nursery.start(partial(Patter().serve, agent_of(), port=0)))
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serves,))
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    assert reached[0][0] == "127.0.0.1"


@pytest.mark.costly
def test_custom_program_exits_zero_on_sigterm() -> None:
    """A custom program that serves the phone ends on SIGTERM with exit code 0."""
    program = """
import os, signal, trio
from functools import partial
from patter_trio import Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
phone = Patter()
agent = phone.agent("x", vad=ScriptedVAD(), stt=ScriptedSTT(), tts=ScriptedTTS(), llm=ScriptedLLM(["x"]))
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(phone.serve, agent, port=0))
        print("up", flush=True)
trio.run(main)
print("down")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (ours)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert (process.stdout.read(), process.wait(20)) == ("down\n", 0)


def test_a_misspelled_callback_is_an_error() -> None:
    """Assigning to a callback that a phone does not have raises an AttributeError that names the callback."""
    with pytest.raises(AttributeError, match="on_user_speach_started"):
        Patter().on_user_speach_started = print  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["on_llm_token", "on_user_speech_eos", "on_agent_speech_ended"])
def test_speech_callback_must_be_callable(name: str) -> None:
    """Setting a speech callback to what cannot be called is an error that names it; None removes it."""
    phone = Patter()
    with pytest.raises(ConfigurationError, match=f"{name} must be a function, got int: 3"):
        setattr(phone, name, 3)
    setattr(phone, name, None)


@pytest.mark.parametrize(
    "name", ["on_call_start", "on_call_end", "on_transcript", "on_message", "on_metrics", "on_dtmf"]
)
def test_serve_callback_on_phone_names_remedy(name: str) -> None:
    """Setting a callback of serve() on the phone is an error that says where it goes."""
    with pytest.raises(AttributeError, match=rf"phone\.serve\(agent, {name}=\.\.\.\)"):
        setattr(Patter(), name, print)


@pytest.mark.parametrize("number", ["555 1234", "+1 555 010 0002", "15550100002", "+", "sip:desk@example.com", 5])
def test_phone_number_must_be_e164(number: Any) -> None:
    """A phone number that is not E.164 is an error when the phone is made."""
    with pytest.raises(ConfigurationError, match="phone_number must be"):
        Patter(phone_number=number)


@pytest.mark.parametrize("sid", ["hello", "SK" + "0" * 32, "CA" + "0" * 32])
def test_account_sid_should_be_of_an_account(sid: str, caplog: pytest.LogCaptureFixture) -> None:
    """An account SID that does not begin with AC is warned about, and not quoted."""
    Twilio(sid, TOKEN)
    assert "account_sid must begin with AC" in caplog.text
    assert sid not in caplog.text


@pytest.mark.parametrize("url", ["https://h:notaport", "https://h:99999", "https://[::1", "https://a b", "https://:1"])
async def test_malformed_webhook_url_is_refused(url: str) -> None:
    """A webhook_url with a wrong port, wrong brackets, a space or no host is refused before anything opens."""
    with pytest.raises(ConfigurationError, match="public URL"):
        await phone_of(webhook_url=url).serve(agent_of(), port=0)


@pytest.mark.parametrize(
    ("url", "warning"),
    [
        ("http://agent.example.com", "webhook_url begins with http"),
        ("http://127.0.0.1:1", ""),
        ("agent.example.com", ""),
        ("nonsense", "webhook_url https://nonsense leads to nonsense, a name without a domain"),
    ],
)
async def test_unusable_webhook_url_is_warned_about(
    bounded: None, caplog: pytest.LogCaptureFixture, url: str, warning: str
) -> None:
    """A webhook_url that no carrier can use is warned about: streams need wss, and a name needs a domain.

    The numbering plans are loaded by then, so that a transfer does not hold up calls for their import.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(phone_of(webhook_url=url).serve, agent_of(), port=0))
        nursery.cancel_scope.cancel()
    assert ("webhook_url" in caplog.text) == bool(warning)
    assert warning in caplog.text
    assert "phonenumbers.phonemetadata" in sys.modules

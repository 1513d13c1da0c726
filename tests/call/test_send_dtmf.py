"""``send_dtmf``: DTMF digits that the agent sends, by tones, by the carrier's stream or by its REST API."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from patter_trio import CallControl, CallEnded, ConfigurationError, Patter, ProviderError, ToolContext, tool
from patter_trio.abc import CallInfo, StreamCodec
from patter_trio.carriers.twilio import Twilio
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.wire.twilio import TwilioCodec
from tests.kit.call import Backend, agent_of, edges
from tests.kit.tones import keys_in

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


def tones_heard(caller: SimulatedCaller) -> list[tuple[str, float, float]]:
    """Return the keys that the caller heard, with begin and end in call time."""
    return [
        (key, round(stretch.at + begin, 3), round(stretch.at + end, 3))
        for stretch in caller.carrier.played()
        for key, begin, end in keys_in(stretch.audio)
    ]


def keys_heard(caller: SimulatedCaller) -> str:
    return "".join(key for key, _, _ in tones_heard(caller))


async def test_caller_hears_tones_with_gaps(call_simulator: CallSimulator, backend: Backend) -> None:
    """Each digit is a tone of 100 ms with 100 ms of silence behind it; w and W are pauses of 0.5 and 1 s."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("1w2W#*", wait=True)
        assert caller.now == pytest.approx(3.3)
        assert tones_heard(caller) == [("1", 1.0, 1.1), ("2", 1.7, 1.8), ("#", 2.9, 3.0), ("*", 3.1, 3.2)]
        assert caller.state == {"user": "listening", "agent": "idle"}
    # Tones are no speech: observers hear nothing of them.
    assert [name for _, name in edges(caller)] == ["call_start", "call_end"]


@pytest.mark.one_carrier("a carrier that sends digits itself has gaps of its own")
async def test_gap_between_tones_can_be_longer(call_simulator: CallSimulator, backend: Backend) -> None:
    """delay_ms is the silence behind each tone."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("A0", delay_ms=300, wait=True)
        assert tones_heard(caller) == [("A", 1.0, 1.1), ("0", 1.4, 1.5)]


async def test_digits_follow_what_agent_is_saying(call_simulator: CallSimulator, backend: Backend) -> None:
    """Digits begin when the present reply was played, and the next text when they were sent."""
    phone = Patter()
    agent = backend.agent_of(first_message="One moment.", tts=ScriptedTTS(duration=2.0))
    async with call_simulator(agent, phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("12")
        phone.calls[0].say("Done.")
        first, second = await caller.heard(0), await caller.heard(1)
        assert (first.text, second.text) == ("One moment.", "Done.")
        [one, two] = tones_heard(caller)
        assert one[1] == pytest.approx(first.ended, abs=0.03)
        assert second.started > two[2]
    assert caller.dialogue == [("assistant", "One moment."), ("assistant", "Done.")]


async def test_caller_cannot_interrupt_digits(call_simulator: CallSimulator, backend: Backend) -> None:
    """A caller who speaks over the tones does not cut them, and is answered when they were sent."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Yes."), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("1234567890")
        await caller.at(1.1)
        await caller.speaks("Is anybody there", seconds=0.7)
        answer = await caller.heard(0)
        tones = tones_heard(caller)
        assert "".join(key for key, _, _ in tones) == "1234567890"
        assert (answer.text, answer.interrupted) == ("Yes.", False)
        assert answer.started > tones[-1][2]


async def test_text_that_interrupts_waits_for_digits(call_simulator: CallSimulator, backend: Backend) -> None:
    """``say(interrupt=True)`` does not cut a number in half: it is spoken next."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("1234")
        await caller.at(1.3)
        phone.calls[0].say("Later.")
        phone.calls[0].say("Now.", interrupt=True)
        assert [(await caller.heard(number)).text for number in (0, 1)] == ["Now.", "Later."]
        assert keys_heard(caller) == "1234"


async def test_digits_are_sent_before_hang_up(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up waits for digits that were asked for before."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("12")
        phone.calls[0].hang_up()
        await caller.carrier.over.wait()
        assert keys_heard(caller) == "12"
    assert caller.outcome == "agent_hung_up"


# Who may ask for them -------------------------------------------------------------------------------------------------
async def test_on_message_may_send_digits(call_simulator: CallSimulator) -> None:
    """Digits of on_message follow the text that it returns."""

    async def answers(event: dict[str, Any], call: CallControl) -> str:
        await call.send_dtmf("5")
        return "One moment."

    async with call_simulator(agent_of(llm=None), on_message=answers) as caller:
        await caller.speaks("Go on", seconds=0.5)
        heard = await caller.heard(0)
        await caller.waits(1.0)
        [(key, begin, _)] = tones_heard(caller)
        assert (key, begin) == ("5", pytest.approx(heard.ended, abs=0.03))


@tool
def press_in_thread(digits: str, call_context: ToolContext) -> Any:
    """Press keys."""
    return call_context.send_dtmf(digits)


@tool
def press_from_thread(digits: str, call_context: ToolContext) -> str:
    """Press keys."""
    trio.from_thread.run(call_context.send_dtmf, digits)
    return "Pressed."


@tool
async def press(digits: str, call_context: ToolContext) -> str:
    """Press keys."""
    await call_context.send_dtmf(digits)
    return "Pressed."


@pytest.mark.parametrize("used", [press, press_in_thread, press_from_thread], ids=lambda used: used.name)
async def test_tools_may_send_digits(call_simulator: CallSimulator, backend: Backend, used: Any) -> None:
    """Async tools and tools in threads send digits; they follow the reply that called the tool."""
    llm = ScriptedLLM([tool_call(used.name, digits="7#"), "So."])
    async with call_simulator(backend.agent_of(llm=llm, tools=[used])) as caller:
        await caller.speaks("Go on", seconds=0.5)
        heard = await caller.heard(0)
        await caller.waits(1.0)
        assert (heard.text, keys_heard(caller)) == ("So.", "7#")
        assert tones_heard(caller)[0][1] >= heard.ended


async def test_digits_asked_for_early_come_first(call_simulator: CallSimulator, backend: Backend) -> None:
    """Digits that on_call_start asks for are sent when the call has begun, before the first message."""

    async def begins(event: dict[str, Any], call: CallControl) -> None:
        await call.send_dtmf("9")

    async with call_simulator(backend.agent_of(first_message="Hello."), on_call_start=begins) as caller:
        heard = await caller.heard(0)
        [(key, _, end)] = tones_heard(caller)
        assert (key, heard.text) == ("9", "Hello.")
        assert end <= heard.started


# By the carrier -------------------------------------------------------------------------------------------------------
class _SpeakingCodec(TwilioCodec):
    """A codec whose stream has a message for digits, as Plivo's has; the simulated Twilio records it as a fault."""

    def digits(self, digits: str) -> str | None:
        return f'{{"event":"sendDTMF","dtmf":"{digits}"}}'


class _SpeakingTwilio(Twilio):
    def new_codec(self, *_: Any, **__: Any) -> StreamCodec:
        return _SpeakingCodec()


@pytest.mark.one_carrier("its carrier is a Twilio with a message for digits")
async def test_stream_message_sends_digits_without_tones(call_simulator: CallSimulator, backend: Backend) -> None:
    """A carrier whose stream has a message for digits gets it.

    Pauses lie between two, and the next text behind both.
    """
    phone = Patter(_SpeakingTwilio(account_sid="AC" + "5" * 32, auth_token="simulated"))
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("12w3", wait=True)
        assert caller.now == pytest.approx(2.1)  # 2 digits, the pause and another one, at 200 ms each
        sent = [(round(fault.at, 3), "sendDTMF" in fault.message) for fault in caller.carrier.faults]
        assert sent == [(1.0, True), (1.9, True)]
        assert not caller.carrier.played()
        caller.carrier.faults.clear()


class _Requests:
    """A carrier's REST API for digits."""

    def __init__(self, *, knows: bool = True, error: Exception | None = None, takes: float = 0.1) -> None:
        self.asked: list[tuple[float, str]] = []
        self._knows, self._error, self._takes = knows, error, takes

    async def __call__(self, call: CallInfo, digits: str) -> bool:
        self.asked.append((round(trio.current_time(), 3), digits))
        await trio.sleep(self._takes)
        if self._error is not None:
            raise self._error
        return self._knows


@pytest.mark.one_carrier("Plivo has a message for digits, and needs no request")
async def test_rest_request_sends_digits_without_tones(call_simulator: CallSimulator, backend: Backend) -> None:
    """A carrier with a REST request for digits gets one for each part between pauses, and no tones are played."""
    phone, requests = Patter(), _Requests()
    async with call_simulator(backend.agent_of(), phone, seams=Seams(send_digits=requests)) as caller:
        began = caller.carrier.media_start
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("1w23", wait=True)
        assert caller.now == pytest.approx(1.0 + 0.1 + 0.2 + 0.5 + 0.1 + 0.4)
        assert not caller.carrier.played()
    assert requests.asked == [(round(began + 1.0, 3), "1"), (round(began + 1.8, 3), "23")]


@pytest.mark.one_carrier("Plivo has a message for digits, and needs no request")
async def test_tones_follow_if_carrier_cannot(call_simulator: CallSimulator, backend: Backend) -> None:
    """A carrier that has no request for digits is asked once, and all digits are played as tones."""
    phone, requests = Patter(), _Requests(knows=False)
    async with call_simulator(backend.agent_of(), phone, seams=Seams(send_digits=requests)) as caller:
        await caller.at(1.0)
        await phone.calls[0].send_dtmf("1w2", wait=True)
        assert keys_heard(caller) == "12"
    assert [digits for _, digits in requests.asked] == ["1"]


@pytest.mark.one_carrier("Plivo has a message for digits, and needs no request")
@pytest.mark.parametrize(
    ("error", "takes", "raised"),
    [
        (ProviderError("the carrier refused"), 0.1, "the carrier refused"),
        (CallEnded("the carrier says that it is over"), 0.1, "it is over"),
        (None, 60.0, "did not answer within 5 s"),
    ],
    ids=["refused", "over", "silent"],
)
async def test_refused_digits_raise_and_call_continues(
    call_simulator: CallSimulator,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
    takes: float,
    raised: str,
) -> None:
    """Digits that the carrier refuses raise for those who wait, are logged without the digits, and end nothing."""
    phone, requests = Patter(), _Requests(error=error, takes=takes)
    async with call_simulator(backend.agent_of("Yes."), phone, seams=Seams(send_digits=requests)) as caller:
        await caller.at(0.5)
        with (
            caplog.at_level(logging.WARNING, "patter_trio.call"),
            pytest.raises((ProviderError, CallEnded), match=raised),
        ):
            await phone.calls[0].send_dtmf("4711", wait=True)
        assert "sending digits failed" in caplog.text
        assert "4711" not in caplog.text
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.heard(0)).text == "Yes."
        assert not tones_heard(caller)


# What cannot be sent --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("digits", ["", "w", "12e", "1 2", "+1", "1" * 65, "1234d", 12, None, "\u0661"], ids=ascii)
async def test_invalid_digits_are_refused(call_simulator: CallSimulator, digits: Any) -> None:
    """Digits that no keypad has are a ConfigurationError, which does not quote them, and nothing is sent."""
    phone = Patter()
    async with call_simulator(agent_of(), phone) as caller:
        await caller.at(0.5)
        with pytest.raises(ConfigurationError, match="digits must be a string of 1 to 64 of 0-9") as refused:
            await phone.calls[0].send_dtmf(digits)
        assert "12e" not in str(refused.value)
        await caller.waits(1.0)
        assert not caller.carrier.played()


@pytest.mark.parametrize("delay", [0, -1, 2001, 0.1, True, "100"], ids=repr)
async def test_invalid_gap_is_refused(call_simulator: CallSimulator, delay: Any) -> None:
    """A gap that is not a whole number of 1 to 2000 milliseconds is a ConfigurationError."""
    phone = Patter()
    async with call_simulator(agent_of(), phone) as caller:
        await caller.at(0.5)
        with pytest.raises(ConfigurationError, match="delay_ms must be 1 to 2000 milliseconds"):
            await phone.calls[0].send_dtmf("1", delay_ms=delay)


async def test_digits_after_the_end_raise(call_simulator: CallSimulator, backend: Backend) -> None:
    """After the call, ``send_dtmf`` raises CallEnded, and so do digits that were not all sent when the call ended."""
    phone = Patter()
    raised: list[str] = []

    async def waits(call: CallControl, digits: str) -> None:
        with pytest.raises(CallEnded) as ended:
            await call.send_dtmf(digits, wait=True)
        raised.append(str(ended.value).removeprefix(f"call {call.call_id} "))

    async with call_simulator(backend.agent_of(), phone) as caller, trio.open_nursery() as nursery:
        await caller.at(1.0)
        [call] = phone.calls
        nursery.start_soon(waits, call, "1" * 64)
        await caller.at(2.0)
        nursery.start_soon(waits, call, "2")
        await caller.at(3.0)
        await caller.hangs_up()
    assert sorted(raised) == [
        "ended before all digits were sent (leg down)",
        "was over before its digits were sent (caller_hung_up)",
    ]
    with pytest.raises(CallEnded):
        await call.send_dtmf("1")

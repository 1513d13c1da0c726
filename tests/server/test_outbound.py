"""Calls that a phone places: what they end with, whatever the carrier, the callee and the program do."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from patter_trio import CallEnded, Patter, PatterError, ProviderError, ProviderTimeout, RateLimitError
from patter_trio.abc import CallInfo, CallOffered, CallRinging, CallStatus, DialRequest, MachineDetected, StreamFailed
from patter_trio.errors import AuthenticationError, ConfigurationError
from patter_trio.pytest_plugin import PhoneNetworkFixture
from patter_trio.server.calls import open_call_server
from patter_trio.server.outbound import QUEUE_TIMEOUT_S, RING_MARGIN_S
from patter_trio.testing import ScriptedLLM, ScriptedTTS
from patter_trio.testing.simulation.destinations import BUSY, DECLINED, FAILED, NOBODY, Person
from patter_trio.testing.simulation.outbound import open_phone_network
from tests.kit.call import agent_of

# Over Twilio in a quick run; a few tests over all.
pytestmark = pytest.mark.all_carriers
quick = pytest.mark.all_carriers(quick=True)
ANN, BEN = "+15550100003", "+15550100004"


def known_at(carrier: str) -> float:
    """Return when call() returns: with the answer to its request, or, at Plivo, as soon as the phone rings."""
    return 1.2 if carrier == "plivo" else 0.2


async def listens(line: Any) -> None:
    """Hears the greeting and hangs up."""
    await line.hears()


class Heard:
    """What the application hears of starts and ends."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []

    @property
    def callbacks(self) -> dict[str, Any]:
        return {"on_call_start": self.starts.append, "on_call_end": self.ends.append}


of_call: ContextVar[str] = ContextVar("of_call", default="")
"""What an application keeps about the call whose callback runs."""


async def test_call_from_a_callback_has_its_own_context(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that a callback places inherits nothing of the callback's: no variable, and no call in the log's lines."""
    seen: list[tuple[str, str]] = []
    contexts: list[str] = []

    class Context(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if "nobody answered within" in record.getMessage():
                contexts.append(of_call.get())
            return True

    async def on_dtmf(event: dict[str, Any]) -> None:
        of_call.set(event["call_id"])
        # So that our own wait for an answer has an end.
        network.reports_lost = True
        await network.phone.call(BEN, ring_timeout=1)

    def on_call_start(event: dict[str, Any]) -> None:
        seen.append((event["callee"], of_call.get()))

    async def presses(line: Any) -> None:
        await line.hears()
        await line.presses("1")
        await line.waits(30.0)

    log = logging.getLogger("patter_trio.call")
    log.addFilter(counted := Context())
    try:
        with caplog.at_level(logging.INFO, "patter_trio.call"):
            async with open_phone_network(
                agent_of(first_message="Hello."), on_dtmf=on_dtmf, on_call_start=on_call_start
            ) as network:
                network.answers(ANN, presses)
                network.answers(BEN, NOBODY)
                await network.phone.call(ANN)
                await trio.sleep(QUEUE_TIMEOUT_S + 40.0)
    finally:
        log.removeFilter(counted)
    assert seen == [(ANN, ""), (BEN, "")]
    assert contexts == [""]


@attrs.frozen
class _Prewarmed(ScriptedLLM):
    """An LLM that takes two seconds to load, and tells when it is loaded."""

    loaded: Callable[[float], None] = attrs.field(default=lambda _: None, kw_only=True)

    async def prewarm(self) -> None:
        await trio.sleep(2.0)
        self.loaded(trio.current_time())


async def test_other_agent_is_prewarmed_before_the_dial(autojump_clock: object) -> None:
    """An agent that is not the served one is loaded before the phone rings, so that nobody waits on the line."""
    loaded: list[float] = []
    other = agent_of(first_message="I am another.", llm=_Prewarmed(["Yes."], loaded=loaded.append))
    async with open_phone_network(agent_of(first_message="Hello.")) as network:
        network.answers(ANN, listens)
        call = await network.phone.call(ANN, agent=other)
        # 2 s for the model, and 0.2 s for the carrier's answer.
        assert (loaded, trio.current_time()) == ([pytest.approx(2.0)], pytest.approx(2.2))
        await call.ended()


@quick
async def test_a_call_rings_and_is_answered(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A call has an id when the carrier has taken it, is answered after ringing, and ends when the person hangs up."""
    heard = Heard()
    async with phone_network(agent_of(first_message="Hello Ann."), **heard.callbacks) as network:
        network.answers(ANN, listens)
        call = await network.phone.call(ANN, custom_params={"order": "17"})
        assert trio.current_time() == pytest.approx(known_at(carrier))
        assert call.call_id == network.calls[0].call_id
        assert call.outcome == ""
        assert await call.answered()
        assert trio.current_time() == pytest.approx(4.2)
        assert await call.ended() == "caller_hung_up"
        with pytest.raises(CallEnded):
            call.hang_up()
    [start], [end] = heard.starts, heard.ends
    assert start == {
        "call_id": call.call_id,
        "caller": "+15550100002",
        "callee": ANN,
        "direction": "outbound",
        "custom_params": {"order": "17"},
        "telephony_provider": carrier,
    }
    assert (end["outcome"], end["direction"]) == ("caller_hung_up", "outbound")
    assert [entry["text"] for entry in end["transcript"]] == ["Hello Ann."]


@pytest.mark.parametrize(
    ("destination", "outcome", "at"),
    [
        pytest.param(BUSY, "busy", 1.2, id="busy"),
        pytest.param(DECLINED, "rejected", 1.2, id="declined"),
        pytest.param(FAILED, "failed", 1.2, id="failed"),
        pytest.param(NOBODY, "no_answer", 26.2, id="nobody"),
        pytest.param(Person(listens, after=30.0), "no_answer", 26.2, id="too-late"),
    ],
)
async def test_unanswered_call_ends_once(
    destination: Any, outcome: str, at: float, phone_network: PhoneNetworkFixture, carrier: str
) -> None:
    """A call that nobody answers ends with the carrier's reason, and on_call_end follows on_call_start, once."""
    heard = Heard()
    # Twilio has no word for a call that was declined.
    outcome = "busy" if destination is DECLINED and carrier == "twilio" else outcome
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, destination)
        call = await network.phone.call(ANN)
        assert not await call.answered()
        assert await call.ended() == outcome
        assert trio.current_time() == pytest.approx(at)
    assert len(heard.starts) == 1
    assert [end["outcome"] for end in heard.ends] == [outcome]


async def test_wait_returns_at_the_end(phone_network: PhoneNetworkFixture) -> None:
    """With wait=True, call() returns when the call is over."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        assert (await network.phone.call(ANN, wait=True)).outcome == "busy"


@quick
@pytest.mark.parametrize("seconds", [2.0, 6.0], ids=["ringing", "live"])
async def test_cancelled_wait_ends_the_call(seconds: float, phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """With wait=True, a call that is cancelled rings no more, and a live one is hung up: the same over each carrier."""
    heard: list[str] = []

    async def stays(line: Any) -> None:
        heard.append((await line.hears()).text)
        await line.carrier.over.wait()

    async with phone_network(agent_of(first_message="Hello Ann.")) as network:
        network.answers(ANN, stays)
        with trio.move_on_after(seconds):
            await network.phone.call(ANN, wait=True)
        assert trio.current_time() <= seconds + 1.0
        [line] = network.calls
        await line.over.wait()
        assert line.status == ("canceled" if seconds == 2.0 else "completed")
    assert heard == ([] if seconds == 2.0 else ["Hello Ann."])


@quick
async def test_hang_up_while_ringing_cancels(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A hang-up before the answer ends the call at once, and at the carrier, too."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, listens)
        call = await network.phone.call(ANN)
        await trio.sleep(2.0)
        call.hang_up()
        assert await call.ended() == "cancelled"
        assert trio.current_time() == pytest.approx(known_at(carrier) + 2.0)
        # Again, as two tasks may that do not know of each other.
        call.hang_up()
        await network.calls[0].over.wait()
        assert network.calls[0].status == "canceled"
    assert [end["outcome"] for end in heard.ends] == ["cancelled"]


async def test_control_of_start_cancels_too(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """The control that on_call_start gets hangs up a call that rings."""
    async with phone_network(agent_of(), on_call_start=lambda event, control: control.hang_up()) as network:
        network.answers(ANN, listens)
        assert (await network.phone.call(ANN, wait=True)).outcome == "cancelled"
        assert trio.current_time() == pytest.approx(known_at(carrier))


async def test_words_before_the_answer_are_said(phone_network: PhoneNetworkFixture) -> None:
    """What the program says while it rings is said when somebody answers, and a hang-up then waits for it."""
    said: list[str] = []

    async def hears_all(line: Any) -> None:
        said.append((await line.hears()).text)
        await line.carrier.over.wait()

    async with phone_network(agent_of()) as network:
        network.answers(ANN, hears_all)
        call = await network.phone.call(ANN)
        call.say("Your taxi is here.")
        await call.answered()
        call.hang_up()
        assert await call.ended() == "agent_hung_up"
        assert call.control.ended
    assert said == ["Your taxi is here."]


async def test_block_ends_call_after_speech(phone_network: PhoneNetworkFixture) -> None:
    """The end of a block of dial() lets the agent finish its sentence, and then hangs up."""
    said: list[str] = []

    async def hears_all(line: Any) -> None:
        said.append((await line.hears()).text)
        await line.carrier.over.wait()

    async with phone_network(agent_of()) as network:
        network.answers(ANN, hears_all)
        async with network.phone.dial(ANN) as call:
            assert await call.answered()
            call.data["order"] = "17"
            call.say("Your taxi is here.")
        assert call.outcome == "agent_hung_up"
        assert call.control.data == {"order": "17"}
    assert said == ["Your taxi is here."]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0, 4.205, 6.0])
async def test_cancelled_block_ends_call(seconds: float, phone_network: PhoneNetworkFixture) -> None:
    """A block of dial() that is cancelled, at any time, ends the call within a second: it rings no more."""
    heard = Heard()

    async def stays(line: Any) -> None:
        await line.carrier.over.wait()

    async with phone_network(agent_of(first_message="Hello Ann."), **heard.callbacks) as network:
        network.answers(ANN, stays)
        with trio.move_on_after(seconds):
            async with network.phone.dial(ANN):
                await trio.sleep_forever()
        assert trio.current_time() <= seconds + 1.0
        [line] = network.calls
        await line.over.wait()
        assert line.status in ("canceled", "completed")
        assert trio.current_time() <= seconds + 1.5
    assert [end["outcome"] for end in heard.ends] == ["cancelled"] * len(heard.starts)


async def test_failed_block_ends_call(phone_network: PhoneNetworkFixture) -> None:
    """An error in a block of dial() ends the call at once, and passes on."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, listens)
        with pytest.raises(KeyError):
            async with network.phone.dial(ANN) as call:
                raise KeyError
        assert call.outcome == "cancelled"


async def test_lost_reports_are_given_up(
    phone_network: PhoneNetworkFixture, carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call without a report is given up after the ring timeout and a margin, and hung up at the carrier."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, NOBODY)
        call = await network.phone.call(ANN, ring_timeout=10)
        await trio.sleep(2.0)
        network.reports_lost = True
        assert await call.ended() == "no_answer"
        # It rang 1 s after the dial; at Telnyx, the first report comes with the dial.
        first = (0.2 if carrier == "telnyx" else 1.2) + 10 + RING_MARGIN_S
        assert trio.current_time() == pytest.approx(first)
        network.reports_lost = False
        other = await network.phone.call(ANN, ring_timeout=10)
        network.reports_lost = True
        assert await other.ended() == "no_answer"
        # Where call() returns before any report, the call may still be in the carrier's queue.
        margin = QUEUE_TIMEOUT_S if carrier == "twilio" else RING_MARGIN_S
        assert trio.current_time() == pytest.approx(first + known_at(carrier) + 10 + margin)
    assert [end["outcome"] for end in heard.ends] == ["no_answer"] * 2
    assert "no report came" in heard.ends[0]["error"]


@pytest.mark.parametrize(
    "error", [ProviderError("21211: no"), AuthenticationError("no"), RateLimitError("slow", retry_after=1.0)]
)
async def test_refused_dial_raises_and_tells_nothing(error: ProviderError, phone_network: PhoneNetworkFixture) -> None:
    """A dial that the carrier refuses raises its error; neither on_call_start nor on_call_end is called."""
    heard = Heard()
    async with phone_network(agent_of(first_message="Hello Ann."), max_calls=1, **heard.callbacks) as network:
        network.answers(ANN, listens)
        network.dial_error = error
        with pytest.raises(ProviderError) as raised:
            await network.phone.call(ANN)
        assert raised.value is error
        network.dial_error = None
        assert await (await network.phone.call(ANN)).ended() == "caller_hung_up", "the room is free again"
    assert len(heard.starts) == len(heard.ends) == 1


async def test_call_of_a_lost_answer_is_hung_up(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A call that was placed although its dial failed is hung up as soon as it rings, and nobody is told of it."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, listens)
        network.dial_error, network.answer_is_lost = ProviderTimeout("late"), True
        with pytest.raises(ProviderTimeout):
            await network.phone.call(ANN)
        await network.calls[0].over.wait()
        assert network.calls[0].status == "canceled"
        # At Telnyx, a report comes at once, before it rings.
        assert trio.current_time() == pytest.approx(0.2 if carrier == "telnyx" else 1.2)
    assert heard.starts == heard.ends == []


async def test_report_overtakes_the_answer(phone_network: PhoneNetworkFixture) -> None:
    """A call whose webhooks come before the answer to its dial begins and ends once, even if that answer is lost."""
    heard = Heard()
    async with phone_network(agent_of(first_message="Hello Ann."), **heard.callbacks) as network:
        network.answers(ANN, Person(listens, after=0.5))
        network.answer_delay = 2.0
        call = await network.phone.call(ANN)
        assert call.call_id == network.calls[0].call_id
        assert "live" in repr(call)
        await call.ended()
        network.dial_error, network.answer_is_lost = ProviderTimeout("late"), True
        other = await network.phone.call(ANN)
        assert await other.ended() == "caller_hung_up"
    assert [end["outcome"] for end in heard.ends] == ["caller_hung_up"] * 2
    assert len(heard.starts) == 2


FINAL = ("busy", "no_answer", "failed", "cancelled", "rejected", "caller_hung_up")


# A call server for each example: fewer examples.
@settings(max_examples=40, deadline=None)
@given(
    reports=st.lists(
        st.tuples(st.sampled_from(["ringing", "machine", "human", "stream", *FINAL]), st.booleans()), max_size=8
    )
)
def test_any_reports_end_a_call_once(reports: list[tuple[str, bool]]) -> None:
    """Reports in any order, repeated, with or without our reference, and after the end, end a call exactly once."""

    async def main() -> None:
        heard = Heard()
        async with open_phone_network(agent_of(), **heard.callbacks) as network:
            network.answers(ANN, NOBODY)
            server = network.phone._call_servers[0]
            call = await network.phone.call(ANN, ring_timeout=5)
            for kind, known in reports:
                dial = network.calls[0].request.reference if known else ""
                if kind == "ringing":
                    server.on_report(CallRinging(call.call_id, dial))
                elif kind in ("machine", "human"):
                    server.on_report(MachineDetected(call.call_id, kind, dial=dial))  # type: ignore[arg-type]
                elif kind == "stream":
                    server.on_report(StreamFailed(call.call_id, "31920"))
                else:
                    server.on_report(CallStatus(call.call_id, kind, dial))
            first = next((kind for kind, _ in reports if kind in FINAL), "no_answer")
            assert await call.ended() == first
        assert [end["outcome"] for end in heard.ends] == [first]
        assert len(heard.starts) == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_late_id_comes_with_a_report(phone_network: PhoneNetworkFixture) -> None:
    """Where the id comes with the first report, call() returns then; on_call_start and on_call_end follow as ever."""
    heard = Heard()
    async with phone_network(agent_of(first_message="Hello Ann."), carrier="plivo", **heard.callbacks) as network:
        network.answers(ANN, listens)
        network.answers(BEN, BUSY)
        call = await network.phone.call(ANN)
        assert trio.current_time() == pytest.approx(1.2)
        assert call.call_id == network.calls[0].call_id
        assert await call.ended() == "caller_hung_up"
        assert (await network.phone.call(BEN)).outcome == "busy"
    assert len(heard.starts) == 2
    assert [end["outcome"] for end in heard.ends] == ["caller_hung_up", "busy"]


async def test_call_without_id_is_hung_up(phone_network: PhoneNetworkFixture) -> None:
    """A call that is cancelled, or never reported, before its id is known is hung up by the id of its request."""
    heard = Heard()
    async with phone_network(agent_of(), carrier="plivo", **heard.callbacks) as network:
        network.answers(ANN, NOBODY)
        with trio.move_on_after(0.5) as scope:
            await network.phone.call(ANN)
        assert scope.cancelled_caught
        await network.calls[0].over.wait()
        assert network.calls[0].status == "canceled"
        network.reports_lost = True
        with pytest.raises(ProviderTimeout, match="reported nothing about the call"):
            await network.phone.call(ANN, ring_timeout=600)
        await network.calls[1].over.wait()
    assert heard.starts == heard.ends == []


async def test_same_number_twice_is_two_calls(phone_network: PhoneNetworkFixture) -> None:
    """Calling one number twice at the same time makes two calls, each with its own end."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        calls = []
        async with trio.open_nursery() as nursery:
            for _ in range(2):

                async def place() -> None:
                    calls.append(await network.phone.call(ANN))

                nursery.start_soon(place)
        assert len({call.call_id for call in calls}) == 2
        assert [await call.ended() for call in calls] == ["busy", "busy"]


@pytest.mark.deep
async def test_a_hundred_calls_do_not_mix(phone_network: PhoneNetworkFixture) -> None:
    """A hundred calls at once, each with its own agent, words, parameters and end, keep them apart."""
    heard = Heard()
    outcomes: dict[str, str] = {}
    said: dict[str, str] = {}
    async with phone_network(agent_of(), **heard.callbacks) as network:

        async def place(number: int) -> None:
            to = f"+1555010{number:04d}"

            async def listens_here(line: Any) -> None:
                said[to] = (await line.hears()).text

            network.answers(to, [listens_here, BUSY, NOBODY, Person(listens_here, after=0.3)][number % 4])
            own = agent_of(tts=ScriptedTTS(duration=1.0))
            call = await network.phone.call(
                to, own if number % 2 else None, f"Hello {number}.", custom_params={"number": str(number)}
            )
            call.data["number"] = number
            outcomes[to] = await call.ended()
            assert call.data == {"number": number}

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(place, number)
    words = ["caller_hung_up", "busy", "no_answer", "caller_hung_up"]
    assert outcomes == {f"+1555010{number:04d}": words[number % 4] for number in range(100)}
    assert said == {f"+1555010{number:04d}": f"Hello {number}." for number in range(100) if number % 4 in (0, 3)}
    assert {event["callee"]: event["custom_params"] for event in heard.starts} == {
        f"+1555010{number:04d}": {"number": str(number)} for number in range(100)
    }
    assert {event["callee"]: event["outcome"] for event in heard.ends} == outcomes
    assert len(heard.ends) == 100


async def test_max_calls_counts_calls_that_ring(phone_network: PhoneNetworkFixture) -> None:
    """The limit of calls counts those that ring, and a call beyond it raises before anything is sent."""
    async with phone_network(agent_of(), max_calls=2) as network:
        network.answers(ANN, NOBODY)
        first = await network.phone.call(ANN, ring_timeout=5)
        second = await network.phone.call(ANN, ring_timeout=5)
        with pytest.raises(PatterError, match=r"the call to \+1555\*\*\*0003 was not placed: 0 live and 2 announced"):
            await network.phone.call(ANN)
        assert len(network.calls) == 2
        await first.ended()
        await second.ended()
        assert (await network.phone.call(ANN, ring_timeout=5, wait=True)).outcome == "no_answer"


async def test_drain_waits_and_takes_no_more(phone_network: PhoneNetworkFixture) -> None:
    """A drain refuses new calls, and waits for one that rings and is answered."""
    async with phone_network(agent_of(first_message="Hello Ann.")) as network:
        network.answers(ANN, listens)
        call = await network.phone.call(ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.phone.drain, 20.0)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(PatterError, match="the server is draining"):
                await network.phone.call(ANN)
        assert call.outcome == "caller_hung_up"


async def test_closed_server_cancels_what_rings(phone_network: PhoneNetworkFixture) -> None:
    """A server that closes hangs up the phones that ring, and reports the ends."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, NOBODY)
        call = await network.phone.call(ANN)
        await trio.sleep(2.0)
        network.hangs_up_at_end = False
    assert call.outcome == "cancelled"
    assert network.calls[0].status == "canceled"
    assert [end["error"] for end in heard.ends] == ["the server was closed"]


async def test_call_without_server_says_what_helps() -> None:
    """A call of a phone that is not served raises an error that says to serve it."""
    with pytest.raises(ConfigurationError, match=r"run phone\.serve beside it"):
        await Patter(phone_number="+15550100002").call(ANN)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"to": "0155501000"}, "to must be E.164", id="national"),
        pytest.param({"to": "+1 555 010 0003"}, "to must be E.164", id="spaces"),
        pytest.param({"to": None}, "to must be E.164", id="none"),
        pytest.param({"to": "+15550100"}, "lacks its area code", id="local"),
        pytest.param({"to": "+49123"}, "E.164|short", id="short"),
        pytest.param({"to": "+155501000031"}, "too long", id="long"),
        pytest.param({"to": "+9991234567"}, "must be a number that can be dialled", id="country"),
        pytest.param({"from_number": "Patter"}, "from_number .* must be E.164", id="from"),
        pytest.param({"agent": "agent"}, "agent must be an Agent", id="agent"),
        pytest.param({"first_message": 5}, "first_message must be a string", id="first"),
        pytest.param({"first_message": "  "}, "first_message must have words, or be empty", id="first-blank"),
        pytest.param(
            {"voicemail_message": " "}, "voicemail_message must have words, or be empty", id="voicemail-blank"
        ),
        pytest.param({"wait": "no"}, "wait must be True or False, got 'no'", id="wait"),
        pytest.param({"ring_timeout": 0}, "ring_timeout must be", id="ring-0"),
        pytest.param({"ring_timeout": 601}, "ring_timeout must be", id="ring-601"),
        pytest.param({"ring_timeout": True}, "ring_timeout must be", id="ring-bool"),
        pytest.param({"ring_timeout": 2.5}, "ring_timeout must be", id="ring-float"),
        pytest.param({"custom_params": {"a": 1}}, "custom_params must be", id="params"),
        pytest.param({"agent": agent_of(llm=None)}, "exactly one of llm=", id="no-answer"),
    ],
)
async def test_a_mistake_is_found_before_dialling(
    options: dict[str, Any], said: str, phone_network: PhoneNetworkFixture
) -> None:
    """A mistake in the options of a call raises ConfigurationError before anything is sent."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, listens)
        with pytest.raises(ConfigurationError, match=said):
            await network.phone.call(**{"to": ANN, **options})
        assert network.calls == []
        assert trio.current_time() == 0.0


async def test_phone_without_number_needs_from_number(phone_network: PhoneNetworkFixture) -> None:
    """A phone without a number of its own must be given from_number=."""
    async with phone_network(agent_of(), Patter()) as network:
        with pytest.raises(ConfigurationError, match=r"from_number \(or phone_number\)"):
            await network.phone.call(ANN)


async def test_local_phone_cannot_call() -> None:
    """A phone without a carrier says how to place calls."""
    phone = Patter(phone_number="+15550100002")
    async with open_call_server(phone._serve_options(agent_of(), public_url="http://a.test")):
        with pytest.raises(ConfigurationError, match=r"give Patter\(carrier=Twilio\(\)\)"):
            await phone.call(ANN)


async def test_failed_stream_ends_its_block_at_once(phone_network: PhoneNetworkFixture) -> None:
    """A call whose media stream the carrier could not open has failed, and its block waits for nothing."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        server = network.phone._call_servers[0]
        network.answers(ANN, NOBODY)
        async with network.phone.dial(ANN) as call:
            reference = network.calls[0].request.reference
            offered = CallOffered(CallInfo(call.call_id, "", "", "outbound"), reference)
            info = server.context.on_answered(offered)
            server.context.pending.announce(info, trio.current_time())
            server.on_report(StreamFailed(call.call_id, "31920"))
            assert not await call.answered()
            before = trio.current_time()
        assert trio.current_time() == before
        assert call.outcome == "failed"
    assert [end["error"] for end in heard.ends] == ["its media stream failed: 31920"]


async def test_answer_of_an_unknown_call_ends(
    phone_network: PhoneNetworkFixture, carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that another process has placed is hung up when it is answered here."""
    heard = Heard()
    async with phone_network(agent_of(), **heard.callbacks) as network:
        network.answers(ANN, listens)
        hook = f"http://agent.test/webhooks/{carrier}/{{}}?dial=theirs"
        await network._account.carrier.dial(
            DialRequest(
                to=ANN, from_number="+15550100002", reference="theirs", voice_url=hook.format("voice"),
                amd_url=hook.format("amd"), status_url=hook.format("status"),
            )
        )  # fmt: skip
        await network.calls[0].over.wait()
    assert "this server has not placed it" in caplog.text
    assert heard.starts == heard.ends == []


REFUSALS = {402: ProviderError, 403: AuthenticationError, 422: ProviderError, 429: RateLimitError, 503: ProviderError}


@quick
async def test_refusals_of_the_carrier_raise(phone_network: PhoneNetworkFixture) -> None:
    """What the carrier answers to a dial is the error of the call, with the seconds to wait if it says so."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        for status, error in REFUSALS.items():
            network.refuses = status
            with pytest.raises(error, match=f"answered {status}") as raised:
                await network.phone.call(ANN)
            assert type(raised.value) is error
            assert getattr(raised.value, "retry_after", None) == (7.0 if status == 429 else None)
        network.refuses = 0
        assert (await network.phone.call(ANN, wait=True)).outcome == "busy"


@quick
async def test_answered_call_is_transferred(phone_network: PhoneNetworkFixture) -> None:
    """A transfer connects the person to somebody else; the outcome says so, and the call goes on at the carrier."""

    async def stays(line: Any) -> None:
        await line.carrier.over.wait()

    async with phone_network(agent_of()) as network:
        network.answers(ANN, stays)
        call = await network.phone.call(ANN)
        await call.answered()
        await call.control.transfer(BEN)
        assert await call.ended() == "transferred"
        assert network.calls[0].caller.carrier.transferred_to == BEN


async def test_a_number_without_a_phone_is_named(phone_network: PhoneNetworkFixture) -> None:
    """A number that the test has not set is a refusal that says what to give."""
    async with phone_network(agent_of()) as network:
        with pytest.raises(ProviderError, match=r"nothing answers \+15550100003 in this test: give network\.answers"):
            await network.phone.call(ANN)
        with pytest.raises(ValueError, match=r"number must be a number in E\.164"):
            network.answers("0155", BUSY)
        with pytest.raises(TypeError, match="destination must be an async function of the line"):
            network.answers(ANN, "busy")


async def test_unknown_option_is_corrected(phone_network: PhoneNetworkFixture) -> None:
    """A misspelt option of the fixture is an error with all options and the one that was meant."""
    with pytest.raises(TypeError, match=r"phone_network has no option on_call_ends; .*did you mean on_call_end\?"):
        async with phone_network(agent_of(), on_call_ends=print):
            pass


async def test_another_agent_talks(phone_network: PhoneNetworkFixture) -> None:
    """A call may have an agent and a first message of its own."""
    said: list[str] = []

    async def asks(line: Any) -> None:
        said.append((await line.hears()).text)
        await line.speaks("What is it?", seconds=1.0)
        said.append((await line.hears()).text)

    async with phone_network(agent_of(first_message="Served.")) as network:
        network.answers(ANN, asks)
        other = agent_of(llm=ScriptedLLM(["The other agent."]))
        call = await network.phone.call(ANN, other, first_message="Good morning.")
        await call.ended()
    assert said == ["Good morning.", "The other agent."]

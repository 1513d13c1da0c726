"""What a call does when a machine has answered it, or may have."""

from typing import Any, ClassVar

import attrs
import pytest
import trio

from patter_trio import ConfigurationError, MachineDetectionEvent, Patter, PatterEventType, Twilio
from patter_trio.abc import Dialled, DialRequest, MachineDetected, MachineDetection
from patter_trio.conversation.answering import GREETING_PAUSE_S
from patter_trio.pytest_plugin import PhoneNetworkFixture
from patter_trio.server.machines import GREETING_TIMEOUT_S
from patter_trio.testing import ScriptedTTS
from patter_trio.testing.simulation.destinations import Voicemail
from tests.kit.call import agent_of

# Over Twilio in a quick run; a few tests over all.
pytestmark = pytest.mark.all_carriers
quick = pytest.mark.all_carriers(quick=True)
ANN = "+15550100003"
MESSAGE = "This is the dentist. Please call us back."


def said_to(network: Any, number: int = 0) -> list[tuple[str, bool]]:
    """Return what the other side heard in a call, each utterance with True if it was interrupted."""
    return [(heard.text, heard.interrupted) for heard in network.calls[number].caller.utterances]


@quick
async def test_message_is_left_after_the_tone(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A machine hears the message after its greeting and tone, once and whole; the call ends as voicemail."""
    ends: list[dict[str, Any]] = []
    found: list[Any] = []
    async with phone_network(agent_of(tts=ScriptedTTS(duration=3.0)), on_call_end=ends.append) as network:
        network.phone.events.on(PatterEventType.MACHINE_DETECTED, found.append)
        network.answers(ANN, Voicemail(seconds=5.0))
        call = await network.phone.call(ANN, first_message="Hello Ann!", voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        [*_, last] = network.calls[0].caller.utterances
        # The carrier's report comes with the end of the beep, and a finding of our own a quarter of a second later.
        assert 5.5 <= last.started <= 6.5
        assert said_to(network)[-1] == (MESSAGE, False)
    assert [end["outcome"] for end in ends] == ["voicemail"]
    assert found[0].keys() == MachineDetectionEvent.__required_keys__
    # Twilio reports a machine once, at the end of its greeting.
    ended = [True] if carrier == "twilio" else [False, True]
    assert found == [
        {"call_id": call.call_id, "answered_by": "machine", "greeting_ended": has_ended} for has_ended in ended
    ]


async def test_machine_without_message_is_hung_up(phone_network: PhoneNetworkFixture) -> None:
    """Without a message, a machine is hung up as soon as the carrier has found it out."""
    async with phone_network(agent_of(first_message="Hello.", tts=ScriptedTTS(duration=9.0))) as network:
        network.answers(ANN, Voicemail(seconds=8.0))
        call = await network.phone.call(ANN, machine_detection=True)
        assert await call.ended() == "voicemail"
        assert network.calls[0].caller.carrier.ended_at == pytest.approx(2.4, abs=0.1)
    assert network.calls[0].request.machine_detection == "answer"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_callback_decides_about_a_machine(is_async: bool, phone_network: PhoneNetworkFixture) -> None:
    """With on_machine_detection and without a message, the callback decides; it gets the finding and the control."""
    events: list[Any] = []

    def decides(event: Any, control: Any) -> None:
        events.append(event)
        control.say("Hello machine.", interrupt=True)
        control.hang_up()

    async def decides_async(event: Any, control: Any) -> None:
        decides(event, control)

    async with phone_network(agent_of()) as network:
        network.answers(ANN, Voicemail(seconds=2.0))
        call = await network.phone.call(ANN, on_machine_detection=decides_async if is_async else decides)
        assert await call.ended() == "agent_hung_up"
        assert said_to(network)[-1][0] == "Hello machine."
    assert events == [{"call_id": call.call_id, "answered_by": "machine", "greeting_ended": False}]


async def test_a_person_talks_on(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A person notices nothing of the detection; the callback is told of the person."""
    events: list[Any] = []

    async def talks(line: Any) -> None:
        await line.hears()
        await line.speaks("Yes?", seconds=1.0)
        await line.hears()

    async with phone_network(agent_of(first_message="Hello."), voicemail_message=MESSAGE) as network:
        network.answers(ANN, talks)
        call = await network.phone.call(ANN, machine_detection=True, on_machine_detection=events.append)
        assert await call.ended() == "caller_hung_up"
    # Plivo reports machines alone.
    assert [event["answered_by"] for event in events] == ([] if carrier == "plivo" else ["human"])


async def test_message_of_serve_is_the_default(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """Calls that ask for detection say serve's voicemail_message; calls that do not ask, do not."""
    async with phone_network(agent_of(), voicemail_message=MESSAGE) as network:
        network.answers(ANN, Voicemail(seconds=2.0, records=9.0))
        assert (await network.phone.call(ANN, machine_detection=True, wait=True)).outcome == "voicemail"
        assert said_to(network)[-1][0] == MESSAGE
        assert (await network.phone.call(ANN, wait=True)).outcome == "caller_hung_up"
    asked = "answer" if carrier == "plivo" else "greeting_end"
    assert [line.request.machine_detection for line in network.calls] == [asked, ""]


async def test_silence_until_the_greeting_ends(phone_network: PhoneNetworkFixture) -> None:
    """From the finding to the end of the greeting the agent says nothing, whatever the greeting says."""

    async def is_a_machine(line: Any) -> None:
        await line.speaks("You have reached", seconds=1.0)
        server.on_report(MachineDetected(network.calls[0].call_id, "machine"))
        await line.speaks("the family Miller. How are you?", seconds=3.0)
        await line.waits(3.0)
        assert [heard.text for heard in line.utterances if heard.ended > 1.1] == []
        for _ in range(2):
            server.on_report(MachineDetected(network.calls[0].call_id, "machine", greeting_ended=True))
        await line.carrier.over.wait()

    async with phone_network(agent_of(tts=ScriptedTTS(duration=2.0))) as network:
        server = network.phone._call_servers[0]
        network.answers(ANN, is_a_machine)
        call = await network.phone.call(ANN, first_message="Hello Ann!", voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        assert said_to(network)[-1] == (MESSAGE, False)
        assert [text for text, _ in said_to(network)].count(MESSAGE) == 1


@pytest.mark.costly
async def test_unreported_greeting_end_is_bounded(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """A greeting whose end is never reported is followed by the message after a minute."""

    async def is_a_machine(line: Any) -> None:
        server.on_report(MachineDetected(network.calls[0].call_id, "machine"))
        await line.carrier.over.wait()

    async with phone_network(agent_of()) as network:
        server = network.phone._call_servers[0]
        network.answers(ANN, is_a_machine)
        call = await network.phone.call(ANN, voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        [heard] = network.calls[0].caller.utterances
        # Plivo never reports it, so the line is listened to: there is a pause.
        assert heard.started == pytest.approx(GREETING_PAUSE_S if carrier == "plivo" else GREETING_TIMEOUT_S, abs=1.0)


@pytest.mark.parametrize("answered_by", ["screening", "unknown", "human"])
async def test_other_findings_change_nothing(answered_by: Any, phone_network: PhoneNetworkFixture) -> None:
    """A screening assistant, a person and an unknown finding go on with the agent."""

    async def asks(line: Any) -> None:
        server.on_report(MachineDetected(network.calls[0].call_id, answered_by))
        await line.speaks("Who is calling?", seconds=1.0)
        await line.hears()

    async with phone_network(agent_of()) as network:
        server = network.phone._call_servers[0]
        network.answers(ANN, asks)
        assert (await network.phone.call(ANN, voicemail_message=MESSAGE, wait=True)).outcome == "caller_hung_up"


async def test_finding_before_the_stream_counts(phone_network: PhoneNetworkFixture) -> None:
    """A finding that overtakes the media stream is acted on when the stream begins."""

    async def stays(line: Any) -> None:
        await line.carrier.over.wait()

    async with phone_network(agent_of()) as network:
        server = network.phone._call_servers[0]
        network.answers(ANN, stays)
        call = await network.phone.call(ANN, machine_detection=True)
        server.on_report(MachineDetected(call.call_id, "fax"))
        assert await call.ended() == "voicemail"


async def test_wrong_options_of_detection_are_named(phone_network: PhoneNetworkFixture) -> None:
    """A message that is not a text, and a callback without a parameter, raise before anything is sent."""
    async with phone_network(agent_of()) as network:
        with pytest.raises(ConfigurationError, match="voicemail_message must be a string"):
            await network.phone.call(ANN, voicemail_message=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="on_machine_detection must be callable with"):
            await network.phone.call(ANN, on_machine_detection=lambda: None)
        with pytest.raises(ConfigurationError, match=r"machine_detection must be True .* got 'acustic'"):
            await network.phone.call(ANN, machine_detection="acustic")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"machine_detection must be True .* got 1$"):
            await network.phone.call(ANN, machine_detection=1)  # type: ignore[arg-type]
        assert trio.current_time() == 0.0


@pytest.mark.parametrize(
    "options",
    [{"voicemail_message": MESSAGE}, {"on_machine_detection": lambda finding: None}],
    ids=["message", "callback"],
)
async def test_refused_detection_contradicts_its_options(
    options: dict[str, Any], phone_network: PhoneNetworkFixture
) -> None:
    """An explicit False is never overruled at the program's cost: with an option that needs detection, it raises."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, Voicemail())
        with pytest.raises(ConfigurationError, match=f"machine_detection=False and {next(iter(options))}= contradict"):
            await network.phone.call(ANN, machine_detection=False, **options)
        with pytest.raises(ConfigurationError, match="contradict"):
            async with network.phone.dial(ANN, machine_detection=False, **options):
                pass
        assert network.calls == []
        call = await network.phone.call(ANN, machine_detection=None, **options)
        assert network.calls[0].request.machine_detection
        call.hang_up()


# Our own detection --------------------------------------------------------------------------------------------------
@quick
async def test_acoustic_message_is_left_after_the_beep(phone_network: PhoneNetworkFixture) -> None:
    """With "acoustic" the carrier is not asked; a machine hears the message behind its beep, once and whole."""
    found: list[Any] = []
    async with phone_network(agent_of(tts=ScriptedTTS(duration=3.0))) as network:
        network.phone.events.on(PatterEventType.MACHINE_DETECTED, found.append)
        network.answers(ANN, Voicemail(seconds=9.0))
        call = await network.phone.call(ANN, machine_detection="acoustic", voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        assert said_to(network) == [(MESSAGE, False)]
        [heard] = network.calls[0].caller.utterances
        assert 9.5 <= heard.started <= 10.3
    assert network.calls[0].request.machine_detection == ""
    assert [(event["answered_by"], event["greeting_ended"]) for event in found] == [
        ("machine", False),
        ("machine", True),
    ]


@quick
async def test_acoustic_person_hears_no_message(phone_network: PhoneNetworkFixture) -> None:
    """After a hello the agent talks, and the voicemail message never comes, however long the person speaks later."""
    events: list[Any] = []

    async def talks(line: Any) -> None:
        await line.speaks("Hello?", seconds=0.6)
        await line.hears()
        await line.speaks("That is a long story, and I will tell it now.", seconds=9.0)
        await line.hears()

    agent = agent_of("I see.", first_message="Hello Ann.", tts=ScriptedTTS(duration=2.0))
    async with phone_network(agent) as network:
        network.answers(ANN, talks)
        call = await network.phone.call(
            ANN, machine_detection="acoustic", on_machine_detection=events.append, voicemail_message=MESSAGE
        )
        assert await call.ended() == "caller_hung_up"
        assert [text for text, _ in said_to(network)] == ["Hello Ann.", "I see."]
    assert [event["answered_by"] for event in events] == ["human"]


async def test_lost_stream_is_no_pause_of_a_greeting(phone_network: PhoneNetworkFixture) -> None:
    """A greeting that loses its stream for 3 s has not ended: the message is said behind it, and not into it."""

    async def machine(line: Any) -> None:
        await line.speaks("You have reached Ann. I cannot come to the phone.", seconds=6.5)
        line.carrier.return_delay = 3.0
        line.carrier.lose_stream()
        greeting = await line.speaks("Please say who you are and what you want.", seconds=5.0)
        message = await line.hears()
        assert message.text == MESSAGE
        assert message.started >= greeting.ended + GREETING_PAUSE_S

    async with phone_network(agent_of(tts=ScriptedTTS(duration=3.0))) as network:
        network.answers(ANN, machine)
        call = await network.phone.call(ANN, machine_detection="acoustic", voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        assert said_to(network) == [(MESSAGE, False)]


async def test_silent_line_stays_with_agent(phone_network: PhoneNetworkFixture) -> None:
    """A line without a voice is unknown after some seconds, and the call goes on with the agent."""
    events: list[Any] = []

    async def says_nothing(line: Any) -> None:
        await line.waits(20.0)

    async with phone_network(agent_of(first_message="Hello Ann.")) as network:
        network.answers(ANN, says_nothing)
        call = await network.phone.call(ANN, machine_detection="acoustic", on_machine_detection=events.append)
        assert await call.ended() == "caller_hung_up"
        assert said_to(network) == [("Hello Ann.", False)]
    assert [event["answered_by"] for event in events] == ["unknown"]


async def test_carrier_without_detection_is_helped(phone_network: PhoneNetworkFixture) -> None:
    """Where a carrier finds out nothing, machine_detection=True listens to the line."""

    class Deaf(Twilio):
        machine_detection: ClassVar[MachineDetection] = ""

        async def dial(self, request: DialRequest) -> Dialled:
            return await super().dial(attrs.evolve(request, machine_detection=""))

    phone = Patter(Deaf("AC" + "5" * 32, "simulated"), "+15550100002")
    async with phone_network(agent_of(), phone, "twilio") as network:
        network.answers(ANN, Voicemail(seconds=4.0))
        call = await network.phone.call(ANN, machine_detection=True, voicemail_message=MESSAGE)
        assert await call.ended() == "voicemail"
        assert said_to(network)[-1] == (MESSAGE, False)

"""Records of what an agent's server sends to a simulated carrier: messages, and violations of the protocol."""

import attrs


@attrs.frozen
class Arrival:
    """A message that the carrier received from the agent's server: audio, the name of a mark, or (neither) a clear."""

    at: float
    audio: bytes = b""
    mark: str = ""

    @property
    def clears(self) -> bool:
        """True if the message empties the carrier's buffer."""
        return not self.audio and not self.mark


@attrs.frozen
class ProtocolFault:
    """A message of the agent's server that Twilio would not accept."""

    at: float
    message: str

"""Calls that we place: what a carrier is asked for, and what it says."""

from typing import Literal

import attrs

MachineDetection = Literal["", "answer", "greeting_end"]
"""Whether the carrier is asked who answers: not at all; a finding as soon as it has one; or also when a machine's
greeting has ended, so that a message can be left."""


@attrs.frozen(kw_only=True)
class DialRequest:
    """A call that a carrier is asked to place.

    Attributes:
        to: the number that is called, E.164.
        from_number: the number that is shown, E.164; one of the account.
        reference: our reference of the call, unguessable. It is in the query of the URLs below as ``dial``, and the
            carrier's reports bring it back.
        voice_url: where the carrier asks what to do when somebody answers.
        status_url: where it reports what becomes of the call.
        amd_url: where it reports who has answered.
        machine_detection: what the carrier is asked to find out.
        ring_timeout: seconds that the phone rings at most.
        time_limit: seconds that the call lasts at most; None: the carrier's own limit.
    """

    to: str
    from_number: str
    reference: str
    voice_url: str
    status_url: str
    amd_url: str
    machine_detection: MachineDetection = ""
    ring_timeout: int = 25
    time_limit: int | None = None


@attrs.frozen
class Dialled:
    """A call that a carrier has accepted to place.

    Attributes:
        call_id: the carrier's id of the call; empty: it comes with the first report about the call.
        request_id: the id that ends the call while its own is not known; empty if ``call_id`` is known.
    """

    call_id: str
    request_id: str = ""


@attrs.frozen
class NumberSetup:
    """The webhooks to which a number of an account sends its calls.

    Attributes:
        number: the number, E.164.
        voice_url: the webhook that announces its calls; empty: none is set.
        status_url: the webhook that reports their status; empty: none is set.
        detail: what else decides about the number, such as the application that it belongs to; for people to read.
    """

    number: str
    voice_url: str
    status_url: str = ""
    detail: str = ""

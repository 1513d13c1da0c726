"""The news that carriers report about a call by webhooks: in each carrier's words, under our own word for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

FormNews = Mapping[str, tuple[str, Mapping[str, str]]]
"""By our word: the kind of the webhook, which ends its route, and the fields beside those that name the call."""
EventNews = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By our word: the type of the event, and the fields of its payload beside those that name the call."""

TWILIO_NEWS: Final[FormNews] = MappingProxyType(
    {
        "voice": ("voice", {"CallStatus": "ringing", "Direction": "inbound"}),
        "ringing": ("status", {"CallStatus": "ringing"}),
        "busy": ("status", {"CallStatus": "busy"}),
        "completed": ("status", {"CallStatus": "completed"}),
        "return": ("return", {"CallStatus": "in-progress"}),
        "machine": ("amd", {"AnsweredBy": "machine_start"}),
        "recording": (
            "recording",
            {
                "RecordingSid": "RE" + "5" * 32,
                "RecordingUrl": "https://api.twilio.com/recording",
                "RecordingStatus": "completed",
                "RecordingDuration": "3",
            },
        ),
    }
)
PLIVO_NEWS: Final[FormNews] = MappingProxyType(
    {
        "voice": ("voice", {"Event": "StartApp", "CallStatus": "ringing", "Direction": "inbound"}),
        "ringing": ("status", {"Event": "Ring", "CallStatus": "ringing"}),
        "busy": ("status", {"Event": "Hangup", "CallStatus": "busy"}),
        "completed": ("status", {"Event": "Hangup", "CallStatus": "completed"}),
        "return": ("return", {"Event": "Redirect", "CallStatus": "in-progress"}),
        "machine": ("amd", {"Event": "MachineDetection", "Machine": "true"}),
        "recording": (
            "recording",
            {"RecordUrl": "https://media.plivo.com/a.wav", "RecordingID": "r1", "RecordingDuration": "3"},
        ),
    }
)
TELNYX_NEWS: Final[EventNews] = MappingProxyType(
    {
        "voice": ("call.initiated", {"direction": "incoming", "state": "parked"}),
        "answered": ("call.answered", {}),
        "ringing": ("call.initiated", {"direction": "outgoing", "state": "bridging"}),
        "busy": ("call.hangup", {"hangup_cause": "user_busy"}),
        "completed": ("call.hangup", {"hangup_cause": "normal_clearing"}),
        "machine": ("call.machine.premium.detection.ended", {"result": "machine"}),
        "recording": ("call.recording.saved", {"recording_urls": {"wav": "https://s3/a.wav"}, "recording_id": "r1"}),
    }
)
NEWS: Final = tuple(what for what in TWILIO_NEWS if what != "return")
"""What each carrier reports, by our words; a call that returns is asked about by Twilio and Plivo alone."""

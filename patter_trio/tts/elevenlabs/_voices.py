"""The vendor's default voices by name, as its voice library lists them (https://elevenlabs.io/docs/capabilities/voices).

The vendor's API takes ids alone and answers 404 to a name.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

DEFAULT_VOICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "adam": "pNInz6obpgDQGcFmaJgB",
        "antoni": "ErXwobaYiN019PkySvjV",
        "arnold": "VR6AewLTigWG4xSOukaG",
        "bill": "pqHfZKP75CvOlQylNhV4",
        "brian": "nPczCjzI2devNBz1zQrb",
        "callum": "N2lVS1w4EtoT3dr4eOWO",
        "charlie": "IKne3meq5aSn9XLyUdCD",
        "charlotte": "XB0fDUnXU5powFXDhCwa",
        "daniel": "onwK4e9ZLuTAKqWW03F9",
        "domi": "AZnzlk1XvdvUeBnXmlld",
        "elli": "MF3mGyEYCl7XYWbV9V6O",
        "emily": "LcfcDJNUP1GQjkzn1xUU",
        "george": "JBFqnCBsd6RMkjVDRZzb",
        "josh": "TxGEqnHWrfWFTfGW9XjX",
        "liam": "TX3LPaxmHKxFdv7VOQHJ",
        "lily": "pFZP5JQG7iQjIQuC4Bku",
        "matilda": "XrExE9yKIg1WjnnlVkGX",
        "nicole": "piTKgcLEGmPE4e6mEKli",
        "rachel": "21m00Tcm4TlvDq8ikWAM",
        "sam": "yoZ06aMxZJJ28mfd3POQ",
        "sarah": "EXAVITQu4vr4xnSDxMaL",
    }
)
"""Id of each voice; names are in lower case."""


def voice_id(given: Any) -> Any:
    """Return the id of a default voice by its name, in any case of letters; anything else unchanged."""
    return DEFAULT_VOICES.get(given.strip().lower(), given) if isinstance(given, str) else given

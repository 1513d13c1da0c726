"""Credentials made up for this process, with which a program loads that names a carrier without having an account."""

import base64
import secrets


def carrier_credentials() -> dict[str, str]:
    """Return credentials of each carrier by environment variable, in the form that the carrier's have."""
    return {
        "TWILIO_ACCOUNT_SID": f"AC{secrets.token_hex(16)}",
        "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
        "TELNYX_API_KEY": secrets.token_hex(16),
        "TELNYX_PUBLIC_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "PLIVO_AUTH_ID": f"MA{secrets.token_hex(9)}",
        "PLIVO_AUTH_TOKEN": secrets.token_hex(16),
    }


def voice_keys() -> dict[str, str]:
    """Return keys of the vendors that only hear or speak, whom a call in text does not ask."""
    # Not OPENAI_API_KEY: the LLM, and the engine, are real.
    return {"DEEPGRAM_API_KEY": secrets.token_hex(16), "ELEVENLABS_API_KEY": secrets.token_hex(16)}

"""List prices, each with its source and its date.

``source`` is the vendor's page, and ``as_of`` a day on which the price is known to have stood there. For the newest
models, that is the day on which a copy of the page was read.

These are the prices without a contract, in USD, without taxes; look at the page before you rely on one. A price that
could not be found with a date is left out: a missing price costs a warning, a wrong one costs trust. Put your own
prices into ``Patter(pricing=...)``.

=============  ======================================================================================
unit           keys
=============  ======================================================================================
``minute``     ``price`` per minute of audio. Carriers: ``inbound`` and ``outbound`` per minute of the
               call, plus ``streams`` for its media stream; ``round_up``: charge each started minute
``1k_chars``   ``price`` per 1000 characters of synthesised text
``token``      per million tokens: ``input``, ``output``, ``cache_read``, ``cache_write``, and for models
               with audio ``audio_input``, ``audio_output``, ``audio_cache_read``
``free``       no keys: it costs nothing
=============  ======================================================================================

A provider's own rates apply to each of its models that has none listed. ``source`` and ``as_of`` apply to its models
too.
"""

from collections.abc import Mapping
from typing import Any, Final

# Shared, because vendors keep a price when they renew a model; where one differs, it is written at the model.
_GPT_REALTIME: Final = {
    "audio_input": 32.0,
    "audio_output": 64.0,
    "input": 4.0,
    "output": 16.0,
    "audio_cache_read": 0.40,
    "cache_read": 0.40,
}
_GPT_REALTIME_MINI: Final = {
    "audio_input": 10.0,
    "audio_output": 20.0,
    "input": 0.60,
    "output": 2.40,
    "audio_cache_read": 0.30,
    "cache_read": 0.06,
}
_OPENAI_MODELS: Final = "https://developers.openai.com/api/docs/models"
# Listed although they cost nothing: without an entry, each would log that its price is missing.
_HERE: Final[Mapping[str, Any]] = {
    "unit": "free",
    "source": "runs on your machine, or belongs to your application",
    "as_of": "2026-11-25",
}

PRICES: Final[Mapping[str, Mapping[str, Any]]] = {
    # Carriers: numbers in the United States.
    "twilio": {
        "unit": "minute",
        "inbound": 0.0085,  # to a local number; a toll-free one costs 0.0220
        "outbound": 0.0140,
        # Added to both directions: an agent's call always has a media stream.
        "streams": 0.0044,
        # Twilio's price is for each minute or part of one.
        "round_up": True,
        "source": "https://www.twilio.com/en-us/voice/pricing/us",
        "as_of": "2026-09-24",
    },
    "plivo": {
        "unit": "minute",
        "inbound": 0.0055,
        "outbound": 0.0115,
        "round_up": True,
        "source": "https://www.plivo.com/voice/pricing/",
        "as_of": "2026-05-08",
    },
    # Streaming STT, and TTS.
    "deepgram": {
        "unit": "minute",
        "price": 0.0048,  # nova-3, one language
        "source": "https://deepgram.com/pricing",
        "as_of": "2026-08-01",
        "models": {
            "nova-3": {"price": 0.0048},
            "nova-3-multilingual": {"price": 0.0058},
            "flux-general-en": {"price": 0.0065, "as_of": "2026-05-11"},
            "flux-general-multi": {"price": 0.0078, "as_of": "2026-11-04"},
        },
    },
    "elevenlabs": {
        "unit": "1k_chars",
        "price": 0.05,  # eleven_flash_v2_5
        "source": "https://elevenlabs.io/pricing/api",
        "as_of": "2026-05-11",
        "models": {
            "eleven_flash_v2": {"price": 0.05},
            "eleven_turbo_v2": {"price": 0.05},
            "eleven_multilingual_v2": {"price": 0.10},
            "eleven_v3": {"price": 0.10},
        },
    },
    # OpenAI's LLMs, STT and TTS.
    "openai": {
        "unit": "token",
        "source": "https://developers.openai.com/api/docs/pricing",
        "as_of": "2026-06-04",
        "models": {
            "gpt-5.5": {"input": 5.0, "output": 30.0, "cache_read": 0.50},
            "gpt-5.4": {"input": 2.5, "output": 15.0, "cache_read": 0.25},
            "gpt-5.4-mini": {"input": 0.75, "output": 4.5, "cache_read": 0.075},
            "gpt-5.4-nano": {"input": 0.20, "output": 1.25, "cache_read": 0.02},
            "gpt-4.1": {"input": 2.0, "output": 8.0, "cache_read": 0.50, "as_of": "2026-06-21"},
            "gpt-4.1-mini": {"input": 0.40, "output": 1.60, "cache_read": 0.10, "as_of": "2026-06-21"},
            "gpt-4o": {"input": 2.5, "output": 10.0, "cache_read": 1.25, "as_of": "2026-04-24"},
            "gpt-4o-mini": {"input": 0.15, "output": 0.60, "cache_read": 0.075, "as_of": "2026-04-24"},
            "gpt-realtime": {**_GPT_REALTIME, "as_of": "2026-05-08"},
            "gpt-realtime-2": {**_GPT_REALTIME, "output": 24.0, "as_of": "2026-05-08"},
            "gpt-realtime-mini": {**_GPT_REALTIME_MINI, "as_of": "2026-05-08"},
            "whisper-1": {"unit": "minute", "price": 0.006, "as_of": "2026-05-08"},
            "gpt-4o-transcribe": {"unit": "minute", "price": 0.006, "as_of": "2026-05-08"},
            "gpt-4o-mini-transcribe": {"unit": "minute", "price": 0.003, "as_of": "2026-05-08"},
            "gpt-realtime-whisper": {
                "unit": "minute",
                "price": 0.017,
                "source": f"{_OPENAI_MODELS}/gpt-realtime-whisper",
                "as_of": "2026-05-08",
            },
            "tts-1": {"unit": "1k_chars", "price": 0.015, "as_of": "2026-05-08"},
            "tts-1-hd": {"unit": "1k_chars", "price": 0.030, "as_of": "2026-05-08"},
        },
    },
    # OpenAI's engine: the speech-to-speech models, and the models that transcribe their input.
    # Under the name of the engine's provider, whose models bill text and audio tokens apart.
    "openai_realtime": {
        "unit": "token",
        "source": "https://developers.openai.com/api/docs/pricing",
        "as_of": "2026-05-08",
        "models": {
            "gpt-realtime": _GPT_REALTIME,
            "gpt-realtime-1.5": {
                **_GPT_REALTIME,
                "source": f"{_OPENAI_MODELS}/gpt-realtime-1.5",
                "as_of": "2026-11-25",
            },
            "gpt-realtime-2": {**_GPT_REALTIME, "output": 24.0},
            "gpt-realtime-2.1": {
                **_GPT_REALTIME,
                "output": 24.0,
                "source": f"{_OPENAI_MODELS}/gpt-realtime-2.1",
                "as_of": "2026-11-25",
            },
            "gpt-realtime-mini": _GPT_REALTIME_MINI,
            "gpt-realtime-2.1-mini": {
                **_GPT_REALTIME_MINI,
                "source": f"{_OPENAI_MODELS}/gpt-realtime-2.1-mini",
                "as_of": "2026-11-25",
            },
            "gpt-transcribe": {
                "unit": "minute",
                "price": 0.0045,
                "source": f"{_OPENAI_MODELS}/gpt-transcribe",
                "as_of": "2026-11-25",
            },
            "gpt-4o-transcribe": {"unit": "minute", "price": 0.006},
            "gpt-4o-mini-transcribe": {"unit": "minute", "price": 0.003},
            "gpt-realtime-whisper": {
                "unit": "minute",
                "price": 0.017,
                "source": f"{_OPENAI_MODELS}/gpt-realtime-whisper",
            },
        },
    },
    # Anthropic bills writing to its cache, too; the others have no such rate, and count it as input.
    "anthropic": {
        "unit": "token",
        "source": "https://platform.claude.com/docs/en/about-claude/pricing",
        "as_of": "2026-08-24",
        "models": {
            "claude-opus-5": {"input": 5.0, "output": 25.0, "cache_read": 0.50, "cache_write": 6.25},
            "claude-sonnet-5": {"input": 2.0, "output": 10.0, "cache_read": 0.20, "cache_write": 2.50},
            "claude-sonnet-4-6": {"input": 3.0, "output": 15.0, "cache_read": 0.30, "cache_write": 3.75},
            "claude-haiku-4-5": {"input": 1.0, "output": 5.0, "cache_read": 0.10, "cache_write": 1.25},
        },
    },
    "groq": {
        "unit": "token",
        "source": "https://groq.com/pricing",
        "as_of": "2026-05-08",
        "models": {
            "llama-3.3-70b-versatile": {"input": 0.59, "output": 0.79},
            "llama-3.1-8b-instant": {"input": 0.05, "output": 0.08},
        },
    },
    # Free of charge.
    "browser": _HERE,
    "local": _HERE,
    "on_message": _HERE,
    "piper": _HERE,
    "scripted": _HERE,
    "text": _HERE,
    "whisper": _HERE,
}
"""Rates by provider, then by model."""

"""The fuzzer's first inputs: well-formed ones of every kind, so that it need not find the protocols by chance."""

from typing import Final

import numpy as np

from patter_trio.audio.wav import write_wav
from patter_trio.testing.faults.injections import (
    BINARY_OPCODE,
    CLOSE_OPCODE,
    CONTINUATION_OPCODE,
    PING_OPCODE,
    PONG_OPCODE,
    TEXT_OPCODE,
    frame,
)

_START: Final = (
    b'{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1","streamSid":"MZ1",'
    b'"callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
    b'"customParameters":{"token":"t"}}}'
)
_MEDIA: Final = b'{"event":"media","streamSid":"MZ%d","media":{"track":"%s","payload":"%s"}}'
_MARK: Final = b'{"event":"mark","streamSid":"MZ1","mark":{"name":"r1.1"}}'
_DIGIT: Final = b'{"event":"dtmf","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"5"}}'
_STOP: Final = b'{"event":"stop","streamSid":"MZ1","stop":{}}'
# 1,200 bytes of the loudest code, 0.15 s: enough for the VAD to hear a voice.
_VOICE: Final = _MEDIA % (1, b"inbound", b"AAAA" * 400)
_HUSH: Final = _MEDIA % (1, b"inbound", b"////" * 400)
_TELNYX_START: Final = (
    b'{"event":"start","sequence_number":"1","stream_id":"S1","start":{"user_id":"U","call_control_id":"v3:C",'
    b'"client_state":"cGF0dGVyOnRva2VuPXQ=","custom_parameters":{"token":"t"},'
    b'"media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}}}'
)
_TELNYX_MEDIA: Final = (
    b'{"event":"media","stream_id":"S1","media":{"track":"%s","chunk":"%d","timestamp":"5","payload":"//8="}}'
)
_UPGRADE: Final = (
    b" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
)
_FORM: Final = b"CallSid=CA1&From=%2B15550100001&To=%2B15550100002&Direction=inbound"


def _post(body: bytes, *more: bytes) -> bytes:
    lines = (
        b"POST /webhooks/twilio/voice HTTP/1.1",
        b"Host: agent.example",
        b"Content-Type: application/x-www-form-urlencoded",
        b"X-Twilio-Signature: AAAA",
        *more,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _wav(bits: int, rate: int, channels: int, kind: int = 1) -> bytes:
    whole = bytearray(write_wav([np.arange(-40, 40, dtype=np.int16) * 400] * channels, rate))
    # Format and bits are written over a valid header, so that only they are wrong.
    whole[20:22] = kind.to_bytes(2, "little")
    whole[34:36] = bits.to_bytes(2, "little")
    return bytes(whole)


_PLIVO_START: Final = (
    b'{"event":"start","sequenceNumber":1,"start":{"callId":"c","streamId":"s","accountId":"MA1","tracks":["inbound"],'
    b'"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"%s"}\n'
)

SEEDS: Final[dict[str, list[bytes]]] = {
    "plivo": [
        _PLIVO_START % b"token=t,a=1" + b'{"event":"media","streamId":"s","media":{"payload":"AAAA","chunk":1}}',
        _PLIVO_START % b'{\\"token\\":\\"t\\"}' + b'{"event":"dtmf","streamId":"s","dtmf":{"digit":"5"}}',
        _PLIVO_START % b"token=t;a=1" + b'{"event":"playedStream","streamId":"s","name":"r1.1"}\n{"event":"stop"}',
        _PLIVO_START % b"" + b'{"event":"clearedAudio","streamId":"s","sequenceNumber":"9"}',
    ],
    "deepgram": [
        (
            b'n{"type":"Results","start":0.0,"duration":1.0,"is_final":true,"speech_final":true,"from_finalize":false,'
            b'"channel":{"alternatives":[{"transcript":"hello there","confidence":0.9,"words":[]}]}}\n'
            b'{"type":"Metadata","duration":2.0,"request_id":"r"}'
        ),
        (
            b'f{"type":"Connected","request_id":"r","sequence_id":0}\n'
            b'{"type":"TurnInfo","event":"EndOfTurn","turn_index":0,"audio_window_start":0.0,"audio_window_end":1.0,'
            b'"transcript":"hello","words":[],"end_of_turn_confidence":0.9}'
        ),
        b'f{"type":"Error","code":"X","description":"no"}',
    ],
    "elevenlabs": [
        b'{"audio":"AAAA","contextId":"c","alignment":{"chars":["a"],"charStartTimesMs":[0],"charDurationsMs":[9]}}',
        b'{"isFinal":true,"contextId":"c"}',
        b'{"error":"quota_exceeded","message":"no","code":1008}',
    ],
    "chat": [
        b'\x03data: {"choices":[{"delta":{"content":"hi"},"finish_reason":null}]}\n\ndata: [DONE]\n\n',
        (
            b'\x05: ping\r\n\r\ndata: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f",'
            b'"arguments":"{}"}}]}}]}\r\n\r\n'
        ),
        b'\x01data: {"error":{"message":"no","code":"rate_limit_exceeded"}}\n\n',
    ],
    "realtime": [
        b'{"type":"session.created","session":{}}',
        b'{"type":"response.created","response":{"id":"r","metadata":{"request":"q"}}}',
        b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","delta":"AAAA"}',
        b'{"type":"response.done","response":{"id":"r","status":"completed","usage":{"input_tokens":1}}}',
        b'{"type":"error","error":{"type":"invalid_request_error","code":"x","message":"no","event_id":"e"}}',
    ],
    "codec": [
        b"\n".join([b'{"event":"connected","protocol":"Call","version":"1.0.0"}', _START, last])
        for last in (_VOICE[:120] + b'"}}', _MARK, _DIGIT, _STOP, _START, b'{"event":"new","streamSid":"MZ1"}')
    ]
    + [_START + b"\n" + _MEDIA % (1, track, b"//8=") for track in (b"inbound", b"outbound")]
    + [_START + b"\n" + _MEDIA % (2, b"inbound", b"AAAA"), _MARK, b"!\xed\xa0\x80"],
    "kit_codec": [
        b'{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}',
        b'{"event":"mark","streamSid":"MZ1","mark":{"name":"m"}}',
        b'{"event":"clear","streamSid":"MZ1"}',
        b'<Response><Connect><Stream url="wss://a/b"><Parameter name="n" value="v"/></Stream></Connect></Response>',
        b'<Response><Reject reason="busy"/></Response>',
    ],
    "telnyx": [
        b"\n".join([b'{"event":"connected","connected":{"x-telnyx-streaming-auth-token":"t"}}', _TELNYX_START, last])
        for last in (
            b'{"event":"mark","stream_id":"S1","mark":{"name":"r1.1"}}',
            b'{"event":"dtmf","stream_id":"S1","dtmf":{"digit":"5"}}',
            b'{"event":"error","stream_id":"S1","payload":{"code":100005,"title":"rate_limit_reached","detail":"x"}}',
            b'{"event":"stop","stream_id":"S1","stop":{"call_control_id":"v3:C"}}',
            b'{"event":"new"}',
        )
    ]
    + [
        b"\n".join([_TELNYX_START, *(_TELNYX_MEDIA % (track, chunk) for chunk in chunks)])
        for track in (b"inbound", b"outbound")
        for chunks in ((1, 2), (1, 3, 2), (1, 3, 4, 5, 6), (1, 9), (9, 1, 2, 3, 4))
    ],
    "wav": [_wav(bits, 8000, channels) for bits in (8, 16, 24, 32) for channels in (1, 2)]
    + [_wav(16, rate, 1) for rate in (7999, 11025, 16000, 44100, 48000)]
    + [_wav(16, 8000, 3), _wav(16, 8000, 1, 7), _wav(16, 8000, 1, 0xFFFE), b"RIFF\0\0\0\0WAVE"],
    "mulaw": [bytes(range(256)), b"\0\x80\xff\x7f"],
    "websocket": [
        # The first byte is the target's choice of pieces; 64 and 127 also leave the pongs to a writer.
        bytes([size]) + data
        for size in (0, 6, 64, 127)
        for data in (
            frame(TEXT_OPCODE, b"hello") + frame(PING_OPCODE, b"?") + frame(CLOSE_OPCODE, b"\x03\xe8bye"),
            frame(TEXT_OPCODE, b"hel", final=False)
            + frame(PONG_OPCODE)
            + frame(CONTINUATION_OPCODE, b"lo")
            + frame(BINARY_OPCODE, b"\xff"),
            frame(TEXT_OPCODE, b"\xff\xfe"),
            frame(TEXT_OPCODE, b"x" * 200),
        )
    ],
    "upgrade": [b"CA1" + _UPGRADE, b"CA%201?x=1" + _UPGRADE + b"\r\nX-Twilio-Signature: AAAA"],
    "connection": [
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /ws/twilio/stream/CA1" + _UPGRADE + b"\r\n\r\n" + frame(TEXT_OPCODE, _START),
        _post(_FORM, b"Content-Length: %d" % len(_FORM)),
        _post(b"5\r\nCallS\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
        _post(_FORM, b"Content-Length: %d" % len(_FORM), b"Expect: 100-continue"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    "webhook": [b"\n" + _FORM, b"who=me&x=%20\n" + _FORM, b"bodySHA256=00\n" + _FORM, b"\nCallSid=CA1", b"\n%ff=%00"],
    "call": [
        b"\n".join(lines)
        for lines in (
            [_VOICE] * 3 + [b"\xf0\x20", _HUSH, _HUSH, b"\xf0\x60", _MARK, _DIGIT, _STOP],
            [b"\xf0\x40", b"\xf1" + frame(PING_OPCODE, b"?") + frame(CLOSE_OPCODE, b"\x03\xe8")],
            [
                b"\xf0\x20",
                _MEDIA % (2, b"inbound", b"AAAA"),
                b"{",
                _START,
                _MARK,
                b"\xf1" + frame(BINARY_OPCODE, b"\0"),
            ],
            [
                b"\xf1" + frame(TEXT_OPCODE, _VOICE[:50], final=False),
                b"\xf1" + frame(CONTINUATION_OPCODE, _VOICE[50:]),
                b"\xf0\xff",
            ],
            [b""],
        )
    ],
}
"""The first inputs of each target."""

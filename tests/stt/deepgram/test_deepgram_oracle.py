"""The vendor's own package as the judge of our messages, of our codecs, and of our fake server."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import DeepgramSTT, ProviderError
from patter_trio.abc import Transcript
from patter_trio.errors import WireError
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.deepgram import FakeDeepgram, serve_deepgram
from patter_trio.wire.deepgram import FluxCodec, ListenCodec, NovaCodec

pytestmark = pytest.mark.no_coverage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("deepgram", reason="the vendor's package is in the extra oracles")
    from deepgram.listen.v1 import types as v1
    from deepgram.listen.v2 import types as v2
    from pydantic import BaseModel

    from tests.kit.oracle import complaints, instances

CLIENT = Path(__file__).parents[2] / "kit" / "vendor_clients" / "deepgram_client.py"
FROM_NOVA = [
    v1.ListenV1Results, v1.ListenV1Metadata, v1.ListenV1UtteranceEnd, v1.ListenV1SpeechStarted, v1.ListenV1Error,
    v1.ListenV1ConfigureSuccess, v1.ListenV1ConfigureFailure,
]  # fmt: skip
FROM_FLUX = [
    v2.ListenV2Connected, v2.ListenV2TurnInfo, v2.ListenV2ConfigureSuccess, v2.ListenV2ConfigureFailure,
    v2.ListenV2FatalError, v2.ListenV2Warning,
]  # fmt: skip
SENT = [
    (v1.ListenV1KeepAlive, "KeepAlive", NovaCodec.keep_alive),
    (v1.ListenV1Finalize, "Finalize", NovaCodec.finalize),
    (v1.ListenV1CloseStream, "CloseStream", NovaCodec.close),
    (v2.ListenV2ForceEndTurn, "ForceEndTurn", FluxCodec.finalize),
    (v2.ListenV2CloseStream, "CloseStream", FluxCodec.close),
]


# What we send ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("model", "kind", "message"), SENT)
def test_what_we_send_is_what_the_vendor_knows(model: type[BaseModel], kind: str, message: str) -> None:
    """The SDK's models accept each control message of the codecs and know all its keys."""
    assert json.loads(message) == {"type": kind}
    assert complaints(model, json.loads(message)) == []


@pytest.mark.parametrize(("model", "kind", "message"), SENT)
def test_the_judge_refuses_what_is_wrong(model: type[BaseModel], kind: str, message: str) -> None:
    """The SDK's models refuse a control message with a wrong type or an unknown key."""
    del message
    assert complaints(model, {"type": kind.lower()})
    assert complaints(model, {"type": kind, "typo": 1})


# What we understand ---------------------------------------------------------------------------------------------------
@pytest.mark.deep
@given(st.data())
@pytest.mark.parametrize("model", [*FROM_NOVA, *FROM_FLUX], ids=lambda model: model.__name__)
def test_codecs_understand_all_deepgram_model_messages(model: type[BaseModel], data: st.DataObject) -> None:
    """The codecs understand every message that the models of the Deepgram SDK can produce."""
    codec: ListenCodec = NovaCodec() if model in FROM_NOVA else FluxCodec()
    messages = data.draw(st.lists(instances(model), min_size=1, max_size=4))
    for message in messages:
        assert complaints(model, message) == []
        if message["type"] == "Error":
            kind = WireError if message.get("variant") == "SchemaError" else ProviderError
            with pytest.raises(kind):
                codec.receive(json.dumps(message))
            continue
        received = codec.receive(json.dumps(message))
        asked = message.get("is_final") and message.get("from_finalize")
        if model is v1.ListenV1Results and message["channel"]["alternatives"] and asked:
            whole = " ".join(message["channel"]["alternatives"][0]["transcript"].split())
            assert received[-1].final
            assert received[-1].text.endswith(whole)
        if model is v2.ListenV2TurnInfo and message["event"] == "EndOfTurn" and received:
            assert received[-1].finished
    assert 0 <= codec.settled < math.inf


@pytest.mark.deep
def test_incomplete_deepgram_message_fails_both_checks() -> None:
    """The SDK models and the codecs both refuse a message that lacks a required field."""
    for model, message, codec in (
        (v1.ListenV1Results, {"type": "Results", "start": 0.0}, NovaCodec()),
        (v2.ListenV2TurnInfo, {"type": "TurnInfo", "event": "Update"}, FluxCodec()),
    ):
        assert complaints(model, message)
        with pytest.raises(WireError):
            codec.receive(json.dumps(message))


# The vendor's client, and the server that plays the vendor ------------------------------------------------------------
def options_of(query: dict[str, list[str]], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): values[0] if len(values) == 1 else values for name, values in query.items()}


async def run_client(url: str, key: str, version: str, options: dict[str, Any], audio: bytes) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "ignore", str(CLIENT), url, key, version, json.dumps(options)]
    with trio.fail_after(60):
        done = await trio.run_process(command, stdin=audio, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.deep
@pytest.mark.parametrize("model", ["nova-3", "flux-general-en"])
async def test_deepgram_client_matches_us_and_our_server(model: str) -> None:
    """The Deepgram client sends the same requests as we do and understands our fake server."""
    version = "v2" if model.startswith("flux") else "v1"
    audio = audible_text.encode("hello there my friend", 50)
    more: dict[str, Any] = {"eot_threshold": 0.8, "eager_eot_threshold": 0.5} if version == "v2" else {"numerals": True}
    async with serve_deepgram(FakeDeepgram(settles_every=0.5)) as vendor:
        stt = DeepgramSTT(api_key="key", base_url=vendor.url, model=model, keyterm=("Patter", "tri o"), **more)
        async with stt.open(language="en") as session:
            for begin in range(0, len(audio), 160):
                await session.send(audio[begin : begin + 160])
            await session.flush()
            words = ""
            with trio.fail_after(10):
                async for transcript in session.transcripts():
                    words += f"{transcript.text} " if transcript.final else ""
                    if "friend" in words:
                        break
        ours = vendor.connections[0]
        received = await run_client(vendor.url, "key", version, options_of(ours.query, {}), audio)
        theirs = vendor.connections[1]
    assert words.split() == ["hello", "there", "my", "friend"]
    assert (theirs.path, theirs.query) == (ours.path, ours.query)
    assert theirs.headers["authorization"] == ours.headers["authorization"]
    assert theirs.audio == ours.audio == audio
    # Their client is made to send a KeepAlive; ours does when there is no audio.
    assert [kind for kind in theirs.types() if kind != "KeepAlive"] == ours.types()
    assert not [one for one in received if one["unknown"]]
    kinds = {"v1": {"Results", "Metadata"}, "v2": {"Connected", "TurnInfo"}}[version]
    assert {one["message"]["type"] for one in received} == kinds
    models: dict[str, Any] = {
        one.model_fields["type"].default: one for one in (FROM_NOVA if version == "v1" else FROM_FLUX)
    }
    codec: ListenCodec = NovaCodec() if version == "v1" else FluxCodec()
    again: list[Transcript] = []
    for one in received:
        message = {name: value for name, value in one["message"].items() if value is not None}
        assert complaints(models[message["type"]], message) == []
        again += codec.receive(json.dumps(one["message"]))
    assert " ".join(one.text for one in again if one.final).split() == ["hello", "there", "my", "friend"]


@pytest.mark.deep
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_deepgram_client_with_wrong_key_is_refused(version: str) -> None:
    """Our fake server refuses the Deepgram client with status 401 when its key is wrong."""
    options = {"model": "flux-general-en" if version == "v2" else "nova-3", "encoding": "mulaw", "sample_rate": "8000"}
    async with serve_deepgram() as vendor:
        received = await run_client(vendor.url, "wrong", version, options, b"")
        assert vendor.refused == 1
    assert received == [{"refused": 401}]


def test_oracle_rejects_misspelled_server_message() -> None:
    """The oracle rejects a server message with a misspelled field."""
    assert complaints(v1.ListenV1UtteranceEnd, {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.0}) == []
    assert complaints(v1.ListenV1UtteranceEnd, {"type": "UtteranceEnd", "channel": [0, 1], "last_word_ends": 1.0})

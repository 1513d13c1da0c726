"""What programs may import, and that all of it is documented."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import patter_trio
from patter_trio.net.address_guard import Guard

PACKAGE = Path(patter_trio.__file__).parent
PAGE = PACKAGE.parent / "docs" / "reference.md"

PUBLIC = {
    "patter_trio",
    "patter_trio.abc",
    "patter_trio.carriers.plivo",
    "patter_trio.carriers.telnyx",
    "patter_trio.carriers.twilio",
    "patter_trio.engines",
    "patter_trio.engines.openai_realtime",
    "patter_trio.errors",
    "patter_trio.events",
    "patter_trio.llm.openai",
    "patter_trio.net",
    "patter_trio.pricing",
    "patter_trio.stt.deepgram",
    "patter_trio.stt.whisper",
    "patter_trio.testing",
    "patter_trio.text_chat",
    "patter_trio.tts.elevenlabs",
    "patter_trio.tts.piper",
    "patter_trio.turn.smart_turn",
    "patter_trio.vad.silero",
}
"""The modules that programs may import; of ``net`` and ``testing`` all modules besides."""
VENDORS = ("carriers", "engines", "llm", "stt", "tts", "turn", "vad")


def members(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def exported_classes() -> Iterator[type]:
    yield from (value for name in patter_trio.__all__ if inspect.isclass(value := getattr(patter_trio, name)))


def test_all_is_sorted_and_importable() -> None:
    """``__all__`` of the package is sorted, and the package has each of its names."""
    assert list(patter_trio.__all__) == sorted(patter_trio.__all__)
    assert all(hasattr(patter_trio, name) for name in patter_trio.__all__)


def test_every_documentable_export_has_docstring() -> None:
    """Every export that can have a docstring has one."""
    bare = [
        name
        for name in patter_trio.__all__
        if inspect.isclass(getattr(patter_trio, name)) and not inspect.getdoc(getattr(patter_trio, name))
    ]
    assert not bare


def test_public_methods_of_main_classes_have_docstrings() -> None:
    """The public methods of the phone, the agent and the call have docstrings."""
    bare = [
        f"{kind.__name__}.{name}"
        for kind in (patter_trio.Patter, patter_trio.Agent, patter_trio.CallControl)
        for name, member in inspect.getmembers(kind, inspect.isroutine)
        if not name.startswith("_") and not inspect.getdoc(member)
    ]
    assert not bare


def test_public_modules_are_those_of_the_reference() -> None:
    """docs/reference.md lists exactly the modules that this file declares public, and each has a docstring."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Public modules\n")[2]
    assert {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")} == PUBLIC
    assert all(import_module(name).__doc__ for name in PUBLIC)


def test_every_exported_provider_is_in_a_public_module() -> None:
    """Each class of a vendor that the top level exports lives in a public module."""
    homes = [kind.__module__.split("._")[0] for kind in exported_classes()]
    of_vendors = [home for home in homes if home.split(".")[1] in VENDORS and home != "patter_trio.llm.chat_context"]
    assert of_vendors
    assert set(of_vendors) <= PUBLIC


@pytest.mark.parametrize("made", [patter_trio.Patter(), patter_trio.EventBus()], ids=["phone", "bus"])
def test_no_internal_is_public(made: object) -> None:
    """A phone and its bus have no public member that shows their servers, address guard or subscriptions."""
    shown = {name: getattr(made, name) for name in members(type(made))}
    assert not [name for name, value in shown.items() if isinstance(value, set | Guard)]
    assert not {"live", "call_servers", "guard", "serve_options", "everywhere"} & shown.keys()


def test_a_phone_has_these_members() -> None:
    """A phone has exactly the public members listed here, and seven callbacks."""
    callbacks = {name for name in members(patter_trio.Patter) if name.startswith("on_")}
    assert members(patter_trio.Patter) - callbacks == {
        *(
            "agent",
            "asgi",
            "call",
            "call_log",
            "calls",
            "carrier",
            "conversation_state",
            "dial",
            "drain",
            "events",
            "phone_number",
        ),
        *("pricing", "public_url", "serve", "speech_events", "text_call", "tunnel", "webhook_url"),
    }
    assert len(callbacks) == 7

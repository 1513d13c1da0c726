"""Callbacks as they are set: what can be called with an event, and what cannot."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import ConfigurationError, Patter, in_thread
from patter_trio.events.callback_registry import SERVE_CALLBACKS, check_callback
from patter_trio.events.payloads import EDGES


class Callback:
    """An object that is called like a function."""

    def __call__(self, event: Any, call_control: Any = None) -> None: ...


class Yields:
    """An object whose call only makes a generator."""

    def __call__(self, event: Any) -> Iterator[int]:
        yield 1


def yields(event: Any) -> Iterator[str]:
    yield "Yes."


async def yields_async(event: Any) -> AsyncIterator[str]:
    yield "Yes."


def three(event: Any, control: Any, more: Any) -> None: ...


def with_keyword(event: Any, *, more: Any) -> None: ...


def makes_a_generator(event: Any) -> AsyncIterator[str]:
    return yields_async(event)


TAKEN: list[Callable[..., Any]] = [
    lambda event: None,
    lambda event, call_control: None,
    lambda event, call_control=None: None,
    lambda event, other=3: None,
    lambda *arguments: None,
    lambda event, /, **options: None,
    functools.partial(three, 1),
    functools.partial(three, 1, 2),
    functools.partial(with_keyword, more=1),
    Callback(),
    Callback().__call__,
    [].append,
    print,
    in_thread(three.__get__(1)),
    makes_a_generator,
]
"""Callbacks that can be called with an event, or with an event and the control."""
REFUSED: list[Any] = [3, "text", None, lambda: None, three, with_keyword, lambda *, event: None, yields, Yields()]


@pytest.mark.parametrize("name", ["on_transcript", "on_message", "on_audio_out"])
@pytest.mark.parametrize("callback", TAKEN)
def test_callables_of_an_event_are_taken(name: str, callback: Callable[..., Any]) -> None:
    """Every form of a function that can be called with an event is accepted."""
    check_callback(name, callback)


@pytest.mark.parametrize("name", ["on_transcript", "on_message", "on_audio_out"])
@pytest.mark.parametrize("callback", REFUSED)
def test_unusable_callbacks_are_refused(name: str, callback: Any) -> None:
    """What is not callable with an event, or whose body nothing would run, raises ConfigurationError."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        check_callback(name, callback)


@pytest.mark.parametrize("name", [*SERVE_CALLBACKS, *(f"on_{edge}" for edge in EDGES)])
def test_async_generators_answer_messages_alone(name: str) -> None:
    """An async generator function is accepted for on_message, and refused for every other callback."""
    for callback in (yields_async, functools.partial(yields_async)):
        if name == "on_message":
            check_callback(name, callback)
            continue
        with pytest.raises(ConfigurationError, match="without yield"):
            check_callback(name, callback)


@given(st.integers(0, 4), st.integers(0, 2), st.booleans())
def test_accepted_callbacks_can_be_called(required: int, optional: int, more: bool) -> None:
    """A function is accepted exactly if it takes one or two arguments that must be given, or any number."""
    names = [f"a{number}" for number in range(required)] + [f"b{number}=None" for number in range(optional)]
    source = f"lambda {', '.join([*names, *(['*rest'] if more else [])])}: None"
    callback = eval(source)  # noqa: S307 (the function is what varies)
    if required <= 2 and required + optional + more >= 1:
        check_callback("on_transcript", callback)
        return
    with pytest.raises(ConfigurationError):
        check_callback("on_transcript", callback)


@pytest.mark.parametrize("edge", EDGES)
def test_setting_a_wrong_speech_callback_raises(edge: str) -> None:
    """A callback of a speech edge is checked where it is set, and None removes it."""
    phone = Patter()
    with pytest.raises(ConfigurationError, match=f"on_{edge} must be a function, got int: 3"):
        setattr(phone, f"on_{edge}", 3)
    with pytest.raises(ConfigurationError, match=f"on_{edge} must be callable with"):
        setattr(phone, f"on_{edge}", lambda: None)
    setattr(phone, f"on_{edge}", print)
    setattr(phone, f"on_{edge}", None)
    assert getattr(phone, f"on_{edge}") is None


@pytest.mark.parametrize("name", SERVE_CALLBACKS)
def test_callback_of_serve_on_phone_names_serve(name: str) -> None:
    """Setting a callback of serve() on a phone raises an AttributeError that says where it belongs."""
    with pytest.raises(AttributeError, match=rf"{name} is an option of serve: phone\.serve\(agent, {name}=\.\.\.\)"):
        setattr(Patter(), name, print)


def test_misspelt_speech_callback_names_the_meant_one() -> None:
    """Setting a misspelt callback raises an AttributeError with the name that was meant."""
    with pytest.raises(AttributeError, match=r"got on_user_speach_ended \(did you mean on_user_speech_ended\?\)"):
        Patter().on_user_speach_ended = print  # type: ignore[attr-defined]

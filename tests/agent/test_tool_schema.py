"""What a function becomes as a tool: its schema, its description, and what is refused."""

import functools
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
import trio

from patter_trio import ConfigurationError, Menu, Tool, end_call, tool
from patter_trio.agent.tools import tools_of
from tests.agent.test_agent import make


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Guest(TypedDict):
    name: str
    room: NotRequired[int]


def properties(function: Callable[..., Any]) -> Any:
    return tool(function).parameters["properties"]


def test_function_with_hints_and_docstring_becomes_tool() -> None:
    """A function with type hints and a docstring becomes a tool."""

    @tool
    async def book(
        name: str, nights: int, kind: Literal["single", "double"] = "single", note: str | None = None
    ) -> str:
        """Book a room.

        Only after the caller has
        confirmed.

        Args:
            name (str): who comes,
                with first name.
            nights: how many
            kind: of room: one bed or two.

        Returns:
            the number: of the room.
        """
        return name

    assert (book.name, book.description) == ("book", "Book a room.\nOnly after the caller has confirmed.")
    assert (book.form, book.timeout_s, book.on_barge_in, book.after_speech) == ("keywords", 10.0, "detach", False)
    assert book.parameters == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "who comes, with first name."},
            "nights": {"type": "integer", "description": "how many"},
            "kind": {
                "type": "string",
                "enum": ["single", "double"],
                "description": "of room: one bed or two.",
                "default": "single",
            },
            "note": {"type": "string"},
        },
        "required": ["name", "nights"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (list, {"type": "array", "items": {}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (dict, {"type": "object"}),
        (Literal[1, "a"], {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["a"]}]}),
        (Size, {"type": "string", "enum": ["s", "l"]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (list[str] | None, {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}),
        (Annotated[int, "of nights"], {"type": "integer", "description": "of nights"}),
        (
            Guest,
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "room": {"type": "integer"}},
                "required": ["name"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_each_type_has_its_schema(hint: Any, schema: dict[str, Any]) -> None:
    """A parameter's type hint becomes its JSON Schema, from bool and list[int] to TypedDict."""

    def function(value: Any) -> None: ...

    function.__annotations__["value"] = hint
    assert properties(function) == {"value": schema}


def test_the_call_is_not_shown_to_the_model() -> None:
    """A tool takes the call as call_context, and the schema for the LLM does not have this parameter."""

    def of_context(room: int, call_context: Any) -> None: ...

    made = tool(of_context)
    assert list(made.parameters["properties"]) == ["room"]
    assert (made.form, made.takes_context) == ("keywords", True)


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (lambda arguments: None, "arguments"),
        (lambda arguments, call_context: None, "arguments and context"),
        (lambda arguments, context: None, "arguments and context"),
        (lambda arguments, verbose=False: None, "arguments"),
        (lambda given: None, "arguments"),
        (lambda room: None, "keywords"),
        (lambda: None, "keywords"),
        (lambda call_context: None, "keywords"),
        (functools.partial(lambda prefix, arguments: None, "x"), "arguments"),
        ([].append, "arguments"),
    ],
)
def test_a_handler_is_called_in_its_own_form(function: Callable[..., Any], form: str) -> None:
    """A handler gets keywords, one dict of arguments, or the dict and the context, as its signature asks."""
    schema = {"type": "object", "properties": {"room": {"type": "integer"}}}
    assert Tool("f", "", schema, function).form == form


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: tool(lambda room: None), r"<lambda>\(room\) must have a type hint"),
        (lambda: tool(_of_bytes), r"_of_bytes\(data\): the type must be str, .*, got <class 'bytes'>"),
        (lambda: tool(_of_many), r"_of_many\(rooms\): a tool's parameters must allow passing by name, got variadic"),
        (lambda: tool(_of_nothing_known), "the type hints of _of_nothing_known cannot be read"),
        (lambda: tool(name="no spaces")(_of_bool), "a tool's name must be"),
        (lambda: tool(timeout_s=0)(_of_bool), "timeout_s must be more than 0 and at most 600 seconds, got 0"),
        (lambda: tool(on_barge_in="stop")(_of_bool), "on_barge_in must be one of cancel, detach, shield"),  # type: ignore[call-overload]
        (lambda: tool(3), "handler must be a function, got int"),  # type: ignore[call-overload]
        (lambda: tool(end_call), "handler must be a function, got Tool"),
        (lambda: Tool("f", "", {"type": "array"}, print), "must be the JSON Schema of an object"),
        (lambda: Tool("f", "", {"x": {1}}, print), "must be serialisable as JSON"),
        (lambda: Tool("f", 5, handler=print), "a tool's description must be a string, got int: 5"),  # type: ignore[arg-type]
        (lambda: tools_of([{"name": "f", "description": 5, "handler": print}]), "a tool's description must be"),
        (lambda: Tool("f"), "exactly one of handler= and webhook_url=; f has neither"),
        (lambda: tools_of([end_call, end_call]), "tools must have different names, got twice: end_call"),
        (lambda: tools_of(end_call), "tools must be a list of tools, got Tool"),
        (lambda: tools_of([Menu({"1": "x"}, prompt="x")]), r"tools\[0\] must not be a Menu: give it as dtmf="),
        (lambda: tools_of(["x"]), r"tools\[0\] must be a Tool, a function or a dict, got str"),
        (lambda: tools_of([{"nmae": "x"}]), r"tools\[0\]: .*nmae"),
    ],
)
def test_invalid_tool_is_rejected_by_name(make_it: Callable[[], Any], message: str) -> None:
    """A function that cannot become a tool raises an error that names it."""
    with pytest.raises(ConfigurationError, match=message):
        make_it()


def _of_bytes(data: bytes) -> None: ...


def _of_many(*rooms: int) -> None: ...


def _of_bool(really: bool) -> None: ...


def _of_nothing_known(value: "Unheard") -> None: ...  # type: ignore[name-defined]  # noqa: F821 (unknown on purpose)


def test_an_agent_takes_tools_functions_and_dicts() -> None:
    """An agent takes tools as functions, Tool objects and dicts, and keeps them if an override is invalid."""

    def hours(day: str) -> str:
        return day

    agent = make(tools=[hours, end_call, {"name": "book", "handler": lambda arguments: None}])
    assert [made.name for made in agent.tools] == ["hours", "end_call", "book"]
    assert make().tools == ()
    other, complaints = agent.overridden({"tools": [7]})
    assert other.tools == agent.tools
    assert "tools[0] must be a Tool" in complaints[0]


async def test_tool_can_be_called_as_its_function() -> None:
    """A function with @tool can be called as it was: with its own arguments, defaults and results, in both ways."""

    @tool
    def add(first: int, second: int = 2) -> int:
        """Add two numbers."""
        return first + second

    @tool(timeout_s=0.1)
    async def greet(name: str) -> str:
        """Greet somebody."""
        await trio.lowlevel.checkpoint()
        return f"Hello {name}"

    class Desk:
        @tool
        def room(self, number: int) -> str:
            """Find a room."""
            return f"room {number}"

    assert (add(1), add(1, second=4), add.handler is not None) == (3, 5, True)
    assert await greet("Ann") == "Hello Ann"
    assert Desk().room(3) == "room 3"


def test_tool_behind_a_url_cannot_be_called() -> None:
    """A tool behind a URL has no function to call, and says so."""
    with pytest.raises(ConfigurationError, match="book must have a handler to be called, got webhook_url="):
        tool(name="book", webhook_url="https://a.example")()

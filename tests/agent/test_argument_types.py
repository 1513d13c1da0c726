"""The types of a tool's parameters: what the LLM sees of each, and what the handler gets."""

import collections
import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest

from patter_trio import ConfigurationError, Tool, tool, transfer_call
from patter_trio.agent.tool_arguments import Misfit, fitted
from patter_trio.agent.tools import tools_of


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Floor(enum.IntEnum):
    GROUND = 0
    FIRST = 1


@dataclasses.dataclass(frozen=True)
class Stay:
    """A stay.

    Attributes:
        arrives: the first day.
    """

    arrives: date
    size: Size = Size.SMALL
    wishes: list[str] = dataclasses.field(default_factory=list)


@attrs.frozen
class Card:
    _digits: str
    limit: Decimal | None = None


class Address(msgspec.Struct, frozen=True):
    street: str
    number: Annotated[int, msgspec.Meta(ge=1, description="of the house")] = 1


class Pair(NamedTuple):
    first: int
    second: Size = Size.SMALL


class Guest(TypedDict):
    name: str
    stay: NotRequired[Stay]


class Code(str):
    __slots__ = ()


class Node(TypedDict):
    children: "list[Node]"


Room = NewType("Room", int)
DAY = {"type": "string", "format": "date"}
SIZE = {"type": "string", "enum": ["s", "l"]}


def tool_of(hint: Any) -> Tool:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = hint
    return tool(function)


def got(made: Tool, **written: Any) -> Mapping[str, Any]:
    """What the handler gets for what the LLM wrote."""
    return made.read(fitted(made.parameters, written, closed=True))


@pytest.mark.parametrize(
    ("hint", "written", "value"),
    [
        (int, 2.0, 2),
        (float, 2, 2.0),
        (Room, 2.0, 2),
        (Code, "A1", Code("A1")),
        (Size, "s", Size.SMALL),
        (Floor, 1.0, Floor.FIRST),
        (Size | None, "l", Size.LARGE),
        (Size | None, None, None),
        (Literal[1, 2], 2.0, 2),
        (Literal[Size.SMALL, True, 1], True, True),
        (Literal[Size.SMALL, True, 1], "s", Size.SMALL),
        (list[Size], ["s", "l"], [Size.SMALL, Size.LARGE]),
        (Iterable[int], [1.0], [1]),
        (set[Size], ["s", "s"], {Size.SMALL}),
        (frozenset[int], [1], frozenset({1})),
        (tuple[int, ...], [1.0, 2], (1, 2)),
        (tuple[int, Size], [1, "l"], (1, Size.LARGE)),
        (tuple, ["a"], ("a",)),
        (list, ["a", 1], ["a", 1]),
        (collections.deque[int], [1], collections.deque([1])),
        (dict[str, date], {"a": "2030-01-31"}, {"a": date(2030, 1, 31)}),
        (dict[int, str], {"7": "x"}, {7: "x"}),
        (dict[Size, int], {"s": 1.0}, {Size.SMALL: 1}),
        (Mapping[str, Any], {"a": None}, {"a": None}),
        (date, "2030-01-31", date(2030, 1, 31)),
        (datetime, "2030-01-31T15:30", datetime(2030, 1, 31, 15, 30)),  # noqa: DTZ001 (as the LLM wrote it)
        (datetime, "2030-01-31T15:30:00Z", datetime(2030, 1, 31, 15, 30, tzinfo=UTC)),
        (time, "15:30", time(15, 30)),
        (Decimal, 0.1, Decimal("0.1")),
        (UUID, "12345678123456781234567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (date | str, "2030-01-31", date(2030, 1, 31)),
        (date | str, "tomorrow", "tomorrow"),
        (int | float, 2.0, 2.0),
        (Stay, {"arrives": "2030-01-31", "size": "l"}, Stay(date(2030, 1, 31), Size.LARGE)),
        (Stay | None, {"arrives": "2030-01-31", "size": None}, Stay(date(2030, 1, 31))),
        (Card, {"digits": "4111"}, Card("4111")),
        (Card, {"digits": "4111", "limit": 10.5}, Card("4111", Decimal("10.5"))),
        (Address, {"street": "High Street", "number": 5.0}, Address("High Street", 5)),
        (Pair, {"first": 1, "second": "l"}, Pair(1, Size.LARGE)),
        (Guest, {"name": "x", "stay": {"arrives": "2030-01-31"}}, {"name": "x", "stay": Stay(date(2030, 1, 31))}),
        (list[Stay | Address], [{"street": "x"}, {"arrives": "2030-01-31"}], [Address("x"), Stay(date(2030, 1, 31))]),
        (Annotated[Size, "of the bed"], "l", Size.LARGE),
    ],
)
def test_the_handler_gets_what_its_hint_says(hint: Any, written: Any, value: Any) -> None:
    """What an LLM writes becomes a value of the parameter's type, at any depth."""
    found = got(tool_of(hint), value=written)["value"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("hint", "written", "problem"),
    [
        (Size, "x", "value must be one of s, l"),
        (date, "2030-02-30", "value must be a date as YYYY-MM-DD"),
        (datetime, "2030-01-31", "value must be a date and time as YYYY-MM-DDTHH:MM:SS"),
        (time, "half past three", "value must be a time as HH:MM"),
        (UUID, "12", "value must be a UUID"),
        (Decimal, "ten", "value must be of type number"),
        (list[date], ["2030-01-31", "x"], "value[1] must be a date as YYYY-MM-DD"),
        (dict[int, str], {"x": "y"}, "a key of value must be an integer"),
        (tuple[int, Size], [1], "value must have at least 2 items"),
        (tuple[int, str], ["a", 1], "value[0] must be of type integer"),
        (Stay, {"arrives": "31 January"}, "value.arrives must be a date as YYYY-MM-DD"),
        (Stay | None, {"arrives": "31 January"}, "value.arrives must be a date as YYYY-MM-DD"),
        (Address, {"street": "x", "number": 0}, "value.number must be at least 1"),
        (Guest, {"name": "x", "stay": {}}, "missing: value.stay.arrives"),
        (float, 10**400, "value must be a smaller number"),
    ],
)
def test_the_llm_learns_which_value_is_wrong(hint: Any, written: Any, problem: str) -> None:
    """A value that is not of its type is named with its place, and the text is ours and not that of an exception."""
    with pytest.raises(Misfit) as info:
        got(tool_of(hint), value=written)
    assert str(info.value) == problem


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (date, DAY),
        (Floor, {"type": "integer", "enum": [0, 1]}),
        (Literal["a"] | None, {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}),
        (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
        (set[date], {"type": "array", "items": DAY}),
        (
            Stay,
            {
                "type": "object",
                "properties": {
                    "arrives": {**DAY, "description": "the first day."},
                    "size": {**SIZE, "default": "s"},
                    "wishes": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["arrives"],
                "additionalProperties": False,
                "description": "A stay.",
            },
        ),
        (
            Pair,
            {
                "type": "object",
                "properties": {"first": {"type": "integer"}, "second": {**SIZE, "default": "s"}},
                "required": ["first"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_each_class_has_its_schema(hint: Any, schema: dict[str, Any]) -> None:
    """The LLM sees fields, defaults and descriptions of a class."""
    assert tool_of(hint).parameters["properties"] == {"value": schema}


def _lists_of_types(schema: Any) -> list[Any]:
    if isinstance(schema, dict):
        inner = [found for item in schema.values() for found in _lists_of_types(item)]
        return inner + ([schema] if isinstance(schema.get("type"), list) else [])
    return [found for item in schema for found in _lists_of_types(item)] if isinstance(schema, list) else []


def test_no_schema_has_a_list_of_types() -> None:
    """Strict servers answer 400 to a list in "type", and every reply of such an agent would be the apology."""

    @tool
    def book(
        day: str | None,
        seats: int | str | None = None,
        of: list[int | None] | None = None,
        kind: Literal["a", 1] | None = None,
        stay: Stay | None = None,
    ) -> None: ...

    assert _lists_of_types(dict(book.parameters)) == []
    assert book.parameters["properties"]["day"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ({"type": ["string"]}, {"type": "string"}),
        ({"type": "string"}, {"type": "string"}),
        (
            {"type": ["string", "null"], "minLength": 1, "description": "which"},
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}], "description": "which"},
        ),
        (
            {"type": "array", "items": {"type": ["integer", "null"]}},
            {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        ),
        (
            {"type": ["string", "null"], "enum": ["a", None]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
        ),
        ({"type": ["string", "null"], "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"enum": [{"type": ["a"]}]}, {"enum": [{"type": ["a"]}]}),
    ],
)
def test_written_schema_is_sent_with_single_types(written: dict[str, Any], shown: dict[str, Any]) -> None:
    """A schema that the application wrote is sent without lists of types, and allows what it allowed."""
    # A parameter called "type" is no keyword.
    schema = {"type": "object", "properties": {"type": written}}
    made = Tool("look_up", "", schema, lambda arguments: None)
    assert made.definition.parameters == {"type": "object", "properties": {"type": shown}}
    assert made.parameters is schema


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        (Size.LARGE, "l"),
        (None, None),
        ("x", "x"),
        (date(2030, 1, 31), "2030-01-31"),
        (Decimal("1.5"), 1.5),
        (Pair(1), {"first": 1, "second": "s"}),
    ],
)
def test_the_schema_shows_the_default(default: Any, shown: Any) -> None:
    """The default of a parameter is in the schema, as JSON has it; None is not, for it means to leave it out."""

    def function(value: Any = default) -> None: ...

    [schema] = tool(function).parameters["properties"].values()
    assert schema == ({} if shown is None else {"default": shown})


def test_value_left_out_and_value_given_are_alike() -> None:
    """An Enum with a default is a member whether the LLM gives it or not; null means the default."""

    @tool
    def order(size: Size = Size.SMALL, tongue: str = "en") -> None: ...

    assert got(order, size="s") == {"size": Size.SMALL}
    assert got(order, size=None, tongue=None) == got(order) == {}


# Refused --------------------------------------------------------------------------------------------------------------
class Desk:
    def __init__(self, shop: str) -> None:
        self.shop = shop

    @tool
    def look_up(self, name: str) -> str:
        """Look up a guest."""
        return f"{self.shop}: {name}"

    def plain(self, name: str) -> str:
        """Look up a guest."""
        return f"{self.shop}: {name}"


def _of_itself(node: Node) -> None: ...


def _with_object(when: "Desk") -> None: ...


def my_tools() -> Tool:
    """A factory of the application's own."""
    return tool(name="x", webhook_url="https://example.com")


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: tool(_of_itself), r"_of_itself\(node\)\.children\[\]: Node must not contain itself"),
        (lambda: tool(_with_object), r"the type must be str, .*dataclass.*pydantic.*, got <class .*Desk'>"),
        (lambda: tool_of(dict[float, str]), "the keys must be strings or int"),
        (lambda: tool_of(Callable[..., Any]), "the type must be str, "),
        (lambda: tools_of([transfer_call]), r"tools\[0\]: transfer_call makes a tool: call it, as in transfer_call\("),
        (lambda: tools_of([my_tools]), r"my_tools makes a tool: call it"),
        (lambda: tool(my_tools), r"my_tools makes a tool: call it"),
        (lambda: tools_of([Desk.look_up]), r"tools\[0\]: Desk.look_up must be of an object: Desk\(\.\.\.\)\.look_up"),
        (lambda: tools_of([Desk.plain]), r"tools\[0\]: Desk.plain must be of an object"),
        (lambda: tools_of([Desk]), r"tools\[0\] must be a Tool, a function or a dict, got type"),
    ],
)
def test_unusable_tool_functions_are_refused(make_it: Callable[[], Any], message: str) -> None:
    """A function that would fail in a call is refused where the agent is made, with what to write."""
    with pytest.raises(ConfigurationError, match=message):
        make_it()


# Forms ----------------------------------------------------------------------------------------------------------------
def test_a_method_is_a_tool_of_its_object() -> None:
    """A method decorated with @tool, or given as it is, is called on the object that it was taken from."""
    for made in (Desk("bakery").look_up, tools_of([Desk("bakery").plain])[0]):
        assert list(made.parameters["properties"]) == ["name"]
        assert made.handler is not None
        assert made.handler(**got(made, name="x")) == "bakery: x"
        assert made.description == "Look up a guest."


def test_partial_offers_its_remaining_parameters() -> None:
    """A functools.partial has the name and the description of its function, and not what it passes itself."""

    def book(hotel: str, name: str, nights: int = 1) -> tuple[str, str, int]:
        """Book a room."""
        return hotel, name, nights

    for partial in (functools.partial(book, "Ritz"), functools.partial(book, hotel="Ritz")):
        [made] = tools_of([partial])
        assert (made.name, made.description) == ("book", "Book a room.")
        assert list(made.parameters["properties"]) == ["name", "nights"]
        assert made.handler is not None
        assert made.handler(**got(made, name="x", hotel="Savoy")) == ("Ritz", "x", 1)


def test_object_with_call_is_a_tool() -> None:
    """An object that can be called takes hints and docstring from its __call__, and the name from its class."""

    class Clock:
        def __call__(self, zone: str) -> str:
            """Tell the time."""
            return zone

    [made] = tools_of([Clock()])
    assert (made.name, made.description, list(made.parameters["properties"])) == ("Clock", "Tell the time.", ["zone"])


def test_cached_function_is_a_tool() -> None:
    """A function behind functools.cache has its own name, hints and docstring."""

    @functools.cache
    def look_up(name: str) -> str:
        """Look up a guest."""
        return name

    [made] = tools_of([look_up])
    assert (made.name, made.description) == ("look_up", "Look up a guest.")
    assert list(made.parameters["properties"]) == ["name"]


@pytest.mark.parametrize(
    ("handler", "form"),
    [
        (lambda a, c: None, "arguments and context"),
        (lambda a: None, "arguments"),
        (lambda: None, "keywords"),
        (lambda call_context: None, "keywords"),
    ],
)
def test_handler_without_hints_takes_a_dict(handler: Callable[..., Any], form: str) -> None:
    """``tool(name=, handler=)`` without parameters takes a function of (arguments) or (arguments, context)."""
    made = tool(name="look_up", description="Look up.", handler=handler)
    assert made.form == form
    assert made.parameters["type"] == "object"
    assert made.parameters["properties"] == {}  # which OpenAI requires


@pytest.mark.parametrize(
    ("name", "words"), [("look_up", "Look up."), ("bookTable", "Book table."), ("send-sms", "Send sms.")]
)
def test_tool_without_description_has_its_name(name: str, words: str) -> None:
    """The LLM gets the name in words for a tool without a docstring: some servers refuse an empty description."""
    assert Tool(name, webhook_url="https://example.com").definition.description == words

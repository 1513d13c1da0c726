"""Parameters described by pydantic: its models, and its fields as annotation and as default."""

from datetime import date
from typing import Annotated, Any

import pytest

from patter_trio import ConfigurationError, tool
from patter_trio.agent.tool_arguments import Misfit
from tests.agent.test_argument_types import _lists_of_types, got, tool_of

pydantic = pytest.importorskip("pydantic")


class Bed(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    width: int = pydantic.Field(ge=80, description="in cm")


class Guest(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    """A guest."""

    title: str
    born: date | None = None
    beds: list[Bed] = pydantic.Field(default=[])
    other: "Bed | None" = None

    @pydantic.field_validator("title")
    @classmethod
    def _checked(cls, title: str) -> str:
        if title == "secret":
            raise ValueError("the password is 1234")
        return title


class Node(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    children: "list[Node]"


def test_field_as_annotation_and_as_default() -> None:
    """A Field describes its parameter, in Annotated or as the default; its own default is what the handler gets."""

    @tool
    def book(
        day: Annotated[str, pydantic.Field(description="as YYYY-MM-DD")],
        seats: int = pydantic.Field(default=2, ge=1, le=8, description="how many"),
        name: str = pydantic.Field(description="of the guest", max_length=20),
        wishes: list[str] = pydantic.Field(default_factory=list),  # noqa: B008 (pydantic's way)
        tongue: Annotated[str, pydantic.Field(default="en")] = "de",
        table: Annotated[int | None, pydantic.Field(ge=1)] = None,
    ) -> None: ...

    assert book.parameters["required"] == ["day", "name"]
    assert book.parameters["properties"] == {
        "day": {"type": "string", "description": "as YYYY-MM-DD"},
        "seats": {"type": "integer", "minimum": 1, "maximum": 8, "description": "how many", "default": 2},
        "name": {"type": "string", "maxLength": 20, "description": "of the guest"},
        "wishes": {"type": "array", "items": {"type": "string"}, "default": []},
        "tongue": {"type": "string", "default": "de"},
        "table": {"type": "integer", "minimum": 1},
    }
    one, two = (got(book, day="2030-01-02", name="x") for _ in range(2))
    assert one == {"day": "2030-01-02", "name": "x", "seats": 2, "wishes": []}
    assert one["wishes"] is not two["wishes"]  # each call has its own
    assert got(book, day="2030-01-02", name="x", seats=3.0, table=1)["seats"] == 3
    for wrong in ({"seats": 0}, {"seats": 9}, {"table": 0}, {"name": "x" * 21}):
        with pytest.raises(Misfit, match=f"{next(iter(wrong))} must"):
            got(book, **{"day": "2030-01-02", "name": "x", **wrong})


def test_model_is_shown_whole_and_made() -> None:
    """A model has its own schema, without references, lists of types and titles, and the handler gets an instance."""
    made = tool_of(Guest)
    [schema] = made.parameters["properties"].values()
    bed = {
        "properties": {"width": {"type": "integer", "minimum": 80, "description": "in cm"}},
        "required": ["width"],
        "type": "object",
    }
    assert schema == {
        "type": "object",
        "description": "A guest.",
        "properties": {
            "title": {"type": "string"},
            "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
            "beds": {"type": "array", "items": bed, "default": []},
            "other": {"anyOf": [bed, {"type": "null"}]},
        },
        "required": ["title"],
    }
    assert _lists_of_types(dict(made.parameters)) == []
    written = {"title": "Dr", "born": "1990-01-31", "beds": [{"width": 90.0}], "other": None}
    assert got(made, value=written)["value"] == Guest(title="Dr", born=date(1990, 1, 31), beds=[Bed(width=90)])
    [guest] = got(tool_of(list[Guest]), value=[{"title": "Dr"}])["value"]
    assert guest == Guest(title="Dr")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({}, "missing: value.title"),
        ({"title": "Dr", "beds": [{"width": 79}]}, "value.beds[0].width must be at least 80"),
        ({"title": "Dr", "born": "31 January"}, "value.born: Input should be a valid date"),
        ({"title": "secret"}, "value.title: it is not valid"),
    ],
)
def test_model_that_refuses_names_the_field(written: Any, problem: str) -> None:
    """The LLM learns which field is wrong; what a validator of the application raises it does not learn."""
    with pytest.raises(Misfit) as info:
        got(tool_of(Guest), value=written)
    assert str(info.value).startswith(problem)
    assert "1234" not in str(info.value)


def test_model_that_contains_itself_is_refused() -> None:
    """A recursive model has no schema without references, which not all vendors understand."""
    with pytest.raises(ConfigurationError, match="Node must not contain itself"):
        tool_of(Node)

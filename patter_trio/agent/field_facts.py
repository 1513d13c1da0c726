"""Description, limits and default of an argument, as the annotations of other libraries have them.

Read by the names of their attributes, so that none of these libraries is imported: pydantic's ``Field``, msgspec's
``Meta`` and annotated-types have them in common.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

# By the name of the attribute, for the JSON types that have the limit: (type, keyword).
_LIMITS: Final[Mapping[str, Mapping[str, str]]] = {
    "ge": {"integer": "minimum", "number": "minimum"},
    "gt": {"integer": "exclusiveMinimum", "number": "exclusiveMinimum"},
    "le": {"integer": "maximum", "number": "maximum"},
    "lt": {"integer": "exclusiveMaximum", "number": "exclusiveMaximum"},
    "min_length": {"string": "minLength", "array": "minItems"},
    "max_length": {"string": "maxLength", "array": "maxItems"},
    "pattern": {"string": "pattern"},
}


def is_pydantic_field(value: object) -> bool:
    """Return True for what ``pydantic.Field(...)`` returns, and for the classes of other libraries derived from it."""
    return any(c.__name__ == "FieldInfo" and c.__module__.startswith("pydantic.") for c in type(value).__mro__)


def default_of_field(field: Any) -> Callable[[], Any] | None:
    """Return what makes the default of a pydantic field; None if it has none."""
    if field.is_required():
        return None
    return lambda: field.get_default(call_default_factory=True)


def facts_of(annotations: Iterable[Any]) -> dict[str, Any]:
    """Return what annotations say, by ``description`` and the names of limits; the first one that says it counts."""
    facts: dict[str, Any] = {}
    for annotation in annotations:
        if isinstance(annotation, str):
            facts.setdefault("description", annotation)
            continue
        # A class is an annotation of its own kind: its attributes are descriptors, not facts.
        if isinstance(annotation, type):
            continue
        for name in ("description", *_LIMITS):
            fact = getattr(annotation, name, None)
            if isinstance(fact, str) if name in ("description", "pattern") else _is_number(fact):
                facts.setdefault(name, fact)
        # pydantic keeps limits as a list of annotations within its field.
        metadata = getattr(annotation, "metadata", None)
        if isinstance(metadata, list | tuple):
            facts = {**facts_of(metadata), **facts}
    return facts


def with_facts(schema: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the facts that apply to its type."""
    limited = _limited(schema, facts)
    return {**limited, "description": facts["description"]} if facts.get("description") else limited


def _limited(schema: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        return {**schema, "anyOf": [_limited(branch, facts) for branch in schema["anyOf"]]}
    kind = str(schema.get("type", ""))
    limits = {of[kind]: facts[name] for name, of in _LIMITS.items() if name in facts and kind in of}
    return {**schema, **limits}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Models of pydantic as arguments of tools, by their own methods: pydantic is not a dependency of this package."""

import json
from collections.abc import Mapping
from typing import Any, Final

from patter_trio.agent.tool_arguments import Misfit
from patter_trio.errors import ConfigurationError

_DEFINITIONS: Final = "#/$defs/"
# For people and for code generators: of no use to an LLM, and refused by strict servers.
_LEFT_OUT: Final = frozenset({"$defs", "title", "discriminator"})
# What the application's own validators raise: an exception's text never goes to an LLM.
_OWN_ERRORS: Final = frozenset({"value_error", "assertion_error"})


def is_pydantic_model(hint: object) -> bool:
    """Return True for a class that makes its own JSON Schema and reads JSON, as pydantic's models do."""
    return isinstance(hint, type) and hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate_json")


def schema_of_model(model: Any, where: str) -> dict[str, Any]:
    """Return the schema of a model, with each reference replaced by what it refers to.

    Raises:
        ConfigurationError: pydantic cannot express a field, or the model contains itself.
    """
    try:
        whole = model.model_json_schema()
    # The bases of pydantic's own errors, which are not imported here.
    except (TypeError, NameError) as error:
        raise ConfigurationError(f"{where}: {model.__name__} has no JSON Schema: {error}") from error
    schema: dict[str, Any] = _inlined(whole, whole.get("$defs", {}), where, ())
    return schema


def read_by_model(model: Any, value: Any, where: str) -> Any:
    """Return an instance of a model.

    Raises:
        Misfit: the model refuses the value.
    """
    try:
        # From JSON, where a strict model takes a date as text, too.
        return model.model_validate_json(json.dumps(value))
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        raise Misfit(_told(error.errors(), where)) from error


def _told(errors: list[Mapping[str, Any]], where: str) -> str:
    """Return what is wrong, with the name of each field."""
    said = []
    for error in errors:
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
        said.append(f"{where}{name}: {'it is not valid' if error['type'] in _OWN_ERRORS else error['msg']}")
    return "; ".join(said)


def _inlined(schema: Any, definitions: Mapping[str, Any], where: str, within: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions, where, within) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    target = schema.get("$ref")
    if isinstance(target, str):
        if target in within:
            raise ConfigurationError(f"{where}: {target.removeprefix(_DEFINITIONS)} must not contain itself")
        found = _inlined(definitions[target.removeprefix(_DEFINITIONS)], definitions, where, (*within, target))
        # What stands beside a reference, such as a description, is of this place.
        beside = {key: _inlined(item, definitions, where, within) for key, item in schema.items() if key != "$ref"}
        return {**found, **beside}
    inlined = {}
    for key, item in schema.items():
        if key == "properties" and isinstance(item, Mapping):
            # Names of fields: one may be called "title".
            inlined[key] = {name: _inlined(field, definitions, where, within) for name, field in item.items()}
        elif key in ("default", "enum", "const", "examples"):
            # Values, not schemas. None as a default means to leave the argument out.
            if key != "default" or item is not None:
                inlined[key] = item
        elif key not in _LEFT_OUT:
            inlined[key] = _inlined(item, definitions, where, within)
    return inlined

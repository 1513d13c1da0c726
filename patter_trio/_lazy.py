"""Exports whose modules are imported when a name is first used (PEP 562).

A package lists its exports twice: as imports under ``TYPE_CHECKING``, for type checkers and editors, and as a table for
:func:`lazy_exports`, for the interpreter. ``tests/api/test_import.py`` compares the two with ``__all__``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module


def lazy_exports(
    package: str, exports: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package.

    Args:
        package: the package's ``__name__``.
        exports: the exported names, keyed by the full name of the module that defines them. The package's own name as a
            key lists its submodules.
    """
    sources = {name: module for module, names in exports.items() for name in names}

    def get(name: str) -> object:
        source = sources.get(name)
        if source is None:
            # With name= and obj=, the traceback of a misspelt name suggests the closest name in __dir__().
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = import_module(f"{package}.{name}") if source == package else getattr(import_module(source), name)
        # The name is now an ordinary attribute: Python finds it without calling this function again.
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sources})

    return get, names

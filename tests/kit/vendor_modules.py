"""Vendors' packages that a test imports when it first uses them: the import of one takes seconds in each process."""

import importlib
import importlib.util
import warnings
from typing import Any

import pytest

REASON = "the vendor's package is an oracle: pip install patter-trio[oracles]"


class VendorModule:
    """A module that is imported when the first of its names is asked for."""

    def __init__(self, name: str) -> None:
        self._module_name = name

    def __getattr__(self, name: str) -> Any:
        with warnings.catch_warnings():
            # Some packages are written for an older pydantic; that is not what is judged.
            warnings.simplefilter("ignore", DeprecationWarning)
            return getattr(importlib.import_module(self._module_name), name)


def vendor_module(name: str) -> Any:
    """Return a vendor's module, or skip the module of tests if the package is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(REASON, allow_module_level=True)
    return VendorModule(name)

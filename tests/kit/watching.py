"""What several files of tests about calls need."""

from typing import Any

import pytest
from call_kit import Witness

from patter_trio.events.reporter import CallReporter


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """An observer of every call."""
    witness = Witness()
    made = CallReporter.__init__

    def watched(self: CallReporter, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **{**options, "observers": (*options.get("observers", ()), witness)})

    monkeypatch.setattr(CallReporter, "__init__", watched)
    return witness

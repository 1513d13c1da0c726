"""What several files of tests about calls need."""

from typing import Any

import pytest

from patter_trio.events.reporter import CallReporter
from tests.kit.call import Witness


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """A watcher of every call."""
    witness = Witness()
    made = CallReporter.__init__

    def watched(self: CallReporter, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **{**options, "watchers": (*options.get("watchers", ()), witness)})

    monkeypatch.setattr(CallReporter, "__init__", watched)
    return witness

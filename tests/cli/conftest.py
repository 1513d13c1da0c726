"""What a program that is loaded changes in this process is taken back after each test."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of its own, without credentials; forget modules, search path and environment afterwards."""
    monkeypatch.chdir(tmp_path)
    for variable in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "PATTER_BIND_HOST"):
        monkeypatch.delenv(variable, raising=False)
    modules, search, environment = set(sys.modules), list(sys.path), dict(os.environ)
    yield
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path.resolve())):
            del sys.modules[name]
    sys.path[:] = search
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach this process and those that it starts, also where the suite itself runs in the background.

    A shell without job control ignores SIGINT for what it starts with ``&``, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

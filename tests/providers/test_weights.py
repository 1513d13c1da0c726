"""Weights: found by package, checked by sha256 and loaded once, with errors that name the remedy."""

import sys
import threading
from pathlib import Path

import attrs
import pytest

from patter_trio.errors import ConfigurationError, MissingExtraError, ProviderError
from patter_trio.providers.weights import LoadOnce, model_errors, optional_module, package_folder
from patter_trio.vad import silero

SILERO = silero._WEIGHTS


def test_weights_are_found_in_their_package() -> None:
    """find() returns the path of Silero's model file in its package."""
    assert SILERO.find().name == "silero_vad.onnx"


def test_custom_weights_path_is_used_as_given(tmp_path: Path) -> None:
    """A custom path to weights is used without a checksum, and a missing path raises ConfigurationError."""
    own = tmp_path / "own.onnx"
    own.write_bytes(b"anything")
    assert SILERO.find(own) == own
    with pytest.raises(ConfigurationError, match=r"must exist, got '.*other\.onnx'"):
        SILERO.find(tmp_path / "other.onnx")


def test_checksum_error_names_file_and_both_sums() -> None:
    """A wrong checksum raises ConfigurationError that names the file and both checksums."""
    other = attrs.evolve(SILERO, sha256="0" * 64)
    with pytest.raises(ConfigurationError) as failure:
        other.find()
    message = str(failure.value)
    assert all(part in message for part in ("silero_vad.onnx", SILERO.sha256, "0" * 64))


def test_missing_file_of_package_suggests_reinstall() -> None:
    """A missing file of an installed package raises ConfigurationError that suggests a reinstall."""
    with pytest.raises(ConfigurationError, match="reinstall its package"):
        attrs.evolve(SILERO, file="gone.onnx").find()


def test_missing_extra_error_names_install_command() -> None:
    """A missing extra raises MissingExtraError that names the command to install it."""
    for attempt in (package_folder, optional_module):
        with pytest.raises(MissingExtraError, match=r"pip install 'patter-trio\[local\]'"):
            attempt("no_such_package_anywhere")


def test_optional_modules_are_imported_by_name() -> None:
    """optional_module() imports and returns the module of a dotted name."""
    assert optional_module("json.decoder") is sys.modules["json.decoder"]


def test_threads_that_ask_at_once_load_once() -> None:
    """Four threads that ask at once load the model once, and each name has its own value."""
    loads: list[str] = []
    barrier = threading.Barrier(4)

    @LoadOnce
    def load(name: str) -> list[str]:
        loads.append(name)
        return [name]

    def ask() -> None:
        barrier.wait(5)
        load("a")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["a"]
    assert load("a") is load("a")
    assert load("b") == ["b"]


def test_runtime_error_becomes_provider_error_with_cause() -> None:
    """An error of a model runtime becomes a ProviderError with the original error as its cause."""
    cause = RuntimeError("out of memory")
    with pytest.raises(ProviderError, match="silero: out of memory") as failure, model_errors("silero"):
        raise cause
    assert failure.value.__cause__ is cause

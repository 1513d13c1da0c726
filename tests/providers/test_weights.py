"""Weights: found by package, checked by sha256, loaded once; what is missing is named with its remedy."""

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
    assert SILERO.find().name == "silero_vad.onnx"


def test_a_path_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(b"anything")
    assert SILERO.find(own) == own
    with pytest.raises(ConfigurationError, match=r"must exist, got '.*other\.onnx'"):
        SILERO.find(tmp_path / "other.onnx")


def test_a_wrong_checksum_names_the_file_and_both_sums() -> None:
    other = attrs.evolve(SILERO, sha256="0" * 64)
    with pytest.raises(ConfigurationError) as failure:
        other.find()
    message = str(failure.value)
    assert all(part in message for part in ("silero_vad.onnx", SILERO.sha256, "0" * 64))


def test_a_missing_file_of_an_installed_package_is_said() -> None:
    with pytest.raises(ConfigurationError, match="reinstall its package"):
        attrs.evolve(SILERO, file="gone.onnx").find()


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    for attempt in (package_folder, optional_module):
        with pytest.raises(MissingExtraError, match=r"pip install 'patter-trio\[local\]'"):
            attempt("no_such_package_anywhere")


def test_optional_modules_are_imported_by_name() -> None:
    assert optional_module("json.decoder") is sys.modules["json.decoder"]


def test_threads_that_ask_at_once_load_once() -> None:
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


def test_what_a_runtime_raises_becomes_the_providers_failure_with_its_cause() -> None:
    cause = RuntimeError("out of memory")
    with pytest.raises(ProviderError, match="silero: out of memory") as failure, model_errors("silero"):
        raise cause
    assert failure.value.__cause__ is cause

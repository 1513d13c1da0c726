"""Weights of embedded models: finding the files, checking them, and loading them once.

Weights packages have one maintainer each, so a version number is not enough: the sha256 of each file found in a package
is checked before its first use. A path given by the user is not checked.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Generic, TypeVar, TypeVarTuple

import attrs
import numpy as np
import numpy.typing as npt

from patter_trio.errors import ConfigurationError, MissingExtraError, ProviderError
from patter_trio.net.threads import run_in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@attrs.frozen
class Weights:
    """A file of weights: the package that contains it, its path in the package, and its sha256."""

    package: str
    file: str
    sha256: str

    def find(self, path: str | Path | None = None) -> Path:
        """Return the file's path: ``path`` if given, else its place in the package, with its checksum verified.

        Raises:
            MissingExtraError: the package is not installed.
            ConfigurationError: the file does not exist, or it differs from the one that this version was made for.
        """
        # The user's own file is the user's business: no checksum is known for it.
        if path is not None:
            own = Path(path)
            if not own.is_file():
                raise ConfigurationError(f"the file of a model must exist, got {str(own)!r}")
            return own
        return _verified(package_folder(self.package) / self.file, self.sha256)


def package_folder(package: str, *, extra: str = "local") -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        MissingExtraError: the package is not installed; the message contains the command for ``extra``.
    """
    # ``find_spec``, because importing the package may load a whole framework.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package, extra)
    return Path(next(iter(spec.submodule_search_locations)))


def require(*modules: str, extra: str = "local") -> None:
    """Check, without importing them, that top-level modules are installed.

    Raises:
        MissingExtraError: one is not; the message contains the command for ``extra``.
    """
    # Only top-level names: ``find_spec`` would import the parent of a dotted one.
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise _missing(name, extra)


def optional_module(name: str, *, extra: str = "local") -> ModuleType:
    """Import a module that belongs to an extra.

    Raises:
        MissingExtraError: the module is not installed; the message contains the command for ``extra``.
    """
    # First, so that the error has the command instead of a bare ImportError.
    require(name.partition(".")[0], extra=extra)
    return importlib.import_module(name)


@attrs.define(eq=False)
class LoadOnce(Generic[T, *Ts]):
    """A loader that makes one object per process and arguments, even when several threads ask for it at once.

    Its function must not have defaults: one argument, given or left out, would make two objects.
    """

    _load: Callable[[*Ts], T]
    _loaded: dict[tuple[*Ts], T] = attrs.field(factory=dict, init=False)
    _lock: Lock = attrs.field(factory=Lock, init=False)

    def __call__(self, *args: *Ts) -> T:
        """Return the object, loading it on first use. An error of the loader is raised; the next call tries again."""
        # The lock is held while it loads: a second thread waits for the same object instead of loading it again.
        with self._lock:
            if args not in self._loaded:
                self._loaded[args] = self._load(*args)
            return self._loaded[args]

    async def in_thread(self, *args: *Ts) -> T:
        """Return the object, loading it in a thread on first use.

        A loaded object is returned at once, so that a call does not queue behind the inference of others.
        """
        # Without the lock: a dict is never in between for a reader.
        if args in self._loaded:
            return self._loaded[args]
        return await run_in_thread(self, *args)


@attrs.frozen(eq=False)
class OnnxModel:
    """An ONNX model on the CPU; several threads may use it at once."""

    name: str
    _session: Any

    def run(self, **inputs: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Return the model's outputs.

        Raises:
            ProviderError: the model failed.
        """
        with model_errors(self.name):
            # None: all outputs, in the model's order.
            outputs: list[npt.NDArray[np.float32]] = self._session.run(None, inputs)
        return outputs


def onnx_model(path: Path, *, keeps_memory: bool = True) -> OnnxModel:
    """Load an ONNX model. Each inference stays in the thread that runs it, because calls run in parallel.

    Args:
        path: the model's file.
        keeps_memory: keep the memory of an inference for the next one, which is faster. False for a model whose inputs
            differ in length: it would keep the memory of the longest for ever.

    Raises:
        ProviderError: the model cannot be loaded.
    """
    import onnxruntime  # noqa: PLC0415 (takes 0.2 s; only agents with an embedded model need it)

    options = onnxruntime.SessionOptions()
    # One thread each: with more, onnxruntime's threads would compete with those of other calls, and its spinning with
    # the event loop.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = keeps_memory
    with model_errors(path.name):
        return OnnxModel(path.stem, onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))


# onnxruntime's errors share no base class; ctranslate2 and tokenizers raise RuntimeError and ValueError.
_ONNX_ERRORS = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
    "RuntimeException",
)


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return the error types of the models' runtimes.

    This does not import onnxruntime: while it is not loaded, it raises nothing.
    """
    # By name in ``sys.modules``: only a loaded library can raise.
    loaded = sys.modules.get("onnxruntime.capi.onnxruntime_pybind11_state")
    onnx = () if loaded is None else tuple(getattr(loaded, name) for name in _ONNX_ERRORS)
    # The built-in types are those of ctranslate2 and tokenizers.
    return (RuntimeError, ValueError, OSError, *onnx)


@contextmanager
def model_errors(name: str) -> Iterator[None]:
    """Turn errors of a model's runtime into a ProviderError with its cause.

    A model that cannot be loaded is one of them.
    """
    try:
        yield
    # A function, so that the types are looked up only for an exception.
    except _runtime_errors() as exc:
        raise ProviderError(f"{name}: {exc}") from exc


# Once per process and file: the largest has 75 MB.
@LoadOnce
def _verified(file: Path, expected: str) -> Path:
    if not file.is_file():
        raise ConfigurationError(f"the file {file} must exist, but is missing: reinstall its package")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected:
        raise ConfigurationError(
            f"the sha256 of {file} must be {expected}, got {found}: reinstall the pinned version of its package"
        )
    return file


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed; run: pip install 'patter-trio[{extra}]'")

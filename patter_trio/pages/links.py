"""Links between the files of pages: each has the version of the file that it leads to.

A browser keeps a file whose address has its version for good, so a page that is opened again asks for nothing but its
data. Without that it would ask for each of two dozen modules again, each over a new connection. A page also names all
modules that its script imports, directly or not: the browser asks for them at once, instead of finding a module's
imports only when it has the module.
"""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import Final

# ``import { a, b } from "./file.js";``, also over several lines, as in our own modules.
_IMPORT: Final = re.compile(r'(?m)^((?:import\b|export\b|\})[^"\n]*\bfrom\s+")(\.{1,2}/[\w./-]+\.js)(?=";)')
_REFERENCE: Final = re.compile(r'(\b(?:href|src)=")([\w./-]+\.(?:js|css|svg))(?=")')
_MODULE: Final = re.compile(r'(?m)^<script type="module" src="([\w./-]+\.js)"></script>\n')
TAG_CHARACTERS: Final = 32
"""Hexadecimal digits of a tag: 128 bits of a SHA-256."""


def tag_of(content: bytes) -> str:
    """Return a text that changes with the content of a file."""
    return hashlib.sha256(content).hexdigest()[:TAG_CHARACTERS]


class LinkedFiles:
    """Files that refer to each other, with versions in their references.

    Args:
        files: the contents by path, such as ``/pages/api.js``.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._linked: dict[str, bytes | None] = {}
        """The contents with versions; None while one is being made."""

    def content(self, path: str) -> bytes:
        """Return the content of a file, in which each reference to another of the files has that one's version.

        The version of a file is the tag of this content, so it also changes with the files that it refers to.

        Raises:
            ValueError: the file refers to itself by way of others, so it has no version.
        """
        if path not in self._linked:
            self._linked[path] = None
            self._linked[path] = self._versioned(path)
        content = self._linked[path]
        if content is None:
            raise ValueError(f"modules must not import each other in a circle, got one with {path}")
        return content

    def modules(self, path: str) -> list[str]:
        """Return the paths of all modules that a module imports, directly or not, the direct ones first."""
        found = [path]
        for module in found:
            imported = (_resolved(module, match[2]) for match in _IMPORT.finditer(self._text(module)))
            found += [one for one in dict.fromkeys(imported) if one in self._files and one not in found]
        return found[1:]

    def _versioned(self, path: str) -> bytes:
        if path.endswith(".js"):
            return _IMPORT.sub(lambda match: match[1] + self._reference(path, match[2]), self._text(path)).encode()
        if path.endswith(".html"):
            text = _MODULE.sub(lambda match: self._preloads(path, match[1]) + match[0], self._text(path))
            return _REFERENCE.sub(lambda match: match[1] + self._reference(path, match[2]), text).encode()
        return self._files[path]

    def _preloads(self, path: str, script: str) -> str:
        folder = posixpath.dirname(path)
        modules = self.modules(_resolved(path, script))
        return "".join(f'<link rel="modulepreload" href="{posixpath.relpath(module, folder)}">\n' for module in modules)

    def _reference(self, path: str, reference: str) -> str:
        target = _resolved(path, reference)
        if target not in self._files:
            return reference
        return f"{reference}?v={tag_of(self.content(target))}"

    def _text(self, path: str) -> str:
        return self._files[path].decode("utf-8") if path in self._files else ""


def _resolved(path: str, reference: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), reference))

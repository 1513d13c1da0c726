"""Fetch the browser libraries of our pages and of their tests from the npm registry; needs npm.

``python docs/make_vendored.py`` fetches the versions in ``patter_trio/pages/vendored.toml`` and
``tests/vendor/vendored.toml``, and refuses a file whose sum differs from the list. With ``--update``, after a version
in a list was changed, it writes the new files and sums.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = {
    ROOT / "patter_trio/pages/vendored.toml": ROOT / "patter_trio/pages/static/vendor",
    ROOT / "tests/vendor/vendored.toml": ROOT / "tests/vendor",
}
"""Each list, and the folder of its files."""


def fetched(package: str, version: str, path: str, folder: Path) -> bytes:
    """Return a file of a package in the registry."""
    spec = f"{package}@{version}"
    packed = subprocess.run(  # noqa: S603 (names from our own list)
        ["npm", "pack", "--silent", spec],  # noqa: S607 (npm is wherever the developer has it)
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        member = archive.extractfile(f"package/{path}")
        if member is None:
            raise SystemExit(f"{spec} has no file {path}")
        return member.read()


def main() -> int:
    """Fetch each file of the lists; return 1 if one differs from its sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the files and their new sums")
    update = parser.parse_args().update
    return max(_fetch(file, vendor, update=update) for file, vendor in LISTS.items())


def _fetch(file: Path, vendor: Path, *, update: bool) -> int:
    text, differs = file.read_text(encoding="utf-8"), False
    with tempfile.TemporaryDirectory() as folder:
        for entry in tomllib.loads(text)["file"]:
            content = fetched(entry["package"], entry["version"], entry["path"], Path(folder))
            found = hashlib.sha256(content).hexdigest()
            if update:
                text = text.replace(entry["sha256"], found)
            elif found != entry["sha256"]:
                sys.stderr.write(f"{entry['name']}: sha256 must be {entry['sha256']}, got {found}\n")
                differs = True
                continue
            vendor.joinpath(entry["name"]).write_bytes(content)
    if update:
        file.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{vendor}: {'differs from the list' if differs else 'as in the list'}\n")
    return int(differs)


if __name__ == "__main__":
    raise SystemExit(main())

"""Fetch the browser libraries of our pages from the npm registry; needs npm.

``python docs/make_vendored.py`` fetches the versions in ``patter_trio/pages/vendored.toml`` and refuses a file whose
sum differs from the list. With ``--update``, after a version in the list was changed, it writes the new files and sums.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

PAGES = Path(__file__).parents[1] / "patter_trio" / "pages"
LIST = PAGES / "vendored.toml"
VENDOR = PAGES / "static" / "vendor"


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
    """Fetch each file of the list; return 1 if one differs from its sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the files and their new sums")
    update = parser.parse_args().update
    text, differs = LIST.read_text(encoding="utf-8"), False
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
            VENDOR.joinpath(entry["name"]).write_bytes(content)
    if update:
        LIST.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{VENDOR}: {'differs from the list' if differs else 'as in the list'}\n")
    return int(differs)


if __name__ == "__main__":
    raise SystemExit(main())

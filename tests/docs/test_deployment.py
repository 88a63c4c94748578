"""The files of deploy/ call `serve` by flags that it has, and ask for paths that it answers."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertwright.verbs.serve import serve

yaml = pytest.importorskip("yaml")
DEPLOY = Path(__file__).parents[2] / "deploy"
FLAGS = {f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters}


def values(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield each name and value of nested mappings and lists."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield name, value
            yield from values(value)
    elif isinstance(node, list):
        for value in node:
            yield from values(value)


def commands() -> dict[str, list[str]]:
    """Return the words that each file calls `serve` with."""
    entry = re.findall(r"^ENTRYPOINT (.+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    start = re.findall(r"^ExecStart=(.+)$", (DEPLOY / "bertwright.service").read_text(), re.M)
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    deployment, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {
        "Dockerfile": json.loads(entry[0]),
        "bertwright.service": shlex.split(start[0]),
        "compose.yaml": compose["services"]["bertwright"]["command"],
        "kubernetes.yaml": deployment["spec"]["template"]["spec"]["containers"][0]["args"],
    }


@pytest.mark.parametrize("file", commands())
def test_flags_are_those_of_serve(file: str) -> None:
    given = {word for word in commands()[file] if word.startswith("--")}
    assert given
    assert given <= FLAGS


def test_probes_ask_for_health_at_the_port() -> None:
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    probes = {name: value["httpGet"] for name, value in values(deployment) if name.endswith("Probe")}
    assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}
    assert {(one["path"], one["port"]) for one in probes.values()} == {("/health", "http")}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    words = commands()["Dockerfile"]
    assert words[words.index("--port") + 1] == "8080"


def test_a_stop_leaves_time_to_answer() -> None:
    seconds = inspect.signature(serve).parameters["timeout"].default
    deployment, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["bertwright"]
    unit = (DEPLOY / "bertwright.service").read_text()
    graces = [
        deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] - 5,  # its preStop sleeps
        int(compose["stop_grace_period"].removesuffix("s")),
        int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]),
    ]
    assert all(grace > seconds for grace in graces)

"""The chart as Helm renders it, and what Kubernetes says to that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
PYTHON = ROOT / ".cache/venvs/deploy/bin/python"
OLDEST, NEWEST = "1.28", "1.37"
NOT_OF_KUBERNETES = ("monitoring.coreos.com/", "cert-manager.io/")

Document = dict[str, Any]


def one(**own: object) -> dict[str, Any]:
    """Values for one service that has BigQuery."""
    return {"services": {"production": {"plugins": ["bigquery"], **own}}}


def read(name: str) -> dict[str, Any]:
    """Values from a file beside this one; `default` are those of the chart alone."""
    file = Path(__file__).parent / "values" / f"{name}.yaml"
    return {} if name == "default" else dict(yaml.safe_load(file.read_text()))


class Refused(Exception):
    """The chart refuses its values; the text is what a person sees."""


class Rendered:
    """All objects of a release, and what `helm install` prints."""

    def __init__(self, documents: Sequence[Document], notes: str) -> None:
        self.documents = documents
        self.notes = notes

    def all(self, kind: str) -> dict[str, Document]:
        """The objects of a kind by name."""
        return {doc["metadata"]["name"]: doc for doc in self.documents if doc["kind"] == kind}

    def one(self, kind: str) -> Document:
        [only] = self.all(kind).values()
        return only

    def pod(self, name: str = "") -> Document:
        """The pod's spec of a Deployment."""
        found = self.all("Deployment")
        deployment = found[name] if name else self.one("Deployment")
        return dict(deployment["spec"]["template"]["spec"])

    def env(self, name: str = "") -> dict[str, str]:
        """The plain variables of a pod's container."""
        [container] = self.pod(name)["containers"]
        return {each["name"]: each["value"] for each in container["env"] if "value" in each}


class Helm:
    """Helm as a library, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, Path(__file__).parent / "helm_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def render(self, values: Mapping[str, object], name: str = "flyteagents") -> Rendered:
        """`helm template` into the namespace `agents`. Raises Refused."""
        reply = self._ask(
            do="render", chart=str(CHART), values=values, name=name, namespace="agents"
        )
        return Rendered(reply["documents"], reply["notes"])

    def lint(self) -> list[dict[str, Any]]:
        return list(self._ask(do="lint", chart=str(CHART))["messages"])

    def validate(self, documents: Sequence[Document], version: str) -> list[str]:
        """What a Kubernetes of that version would refuse."""
        ours = [doc for doc in documents if not doc["apiVersion"].startswith(NOT_OF_KUBERNETES)]
        return [
            error
            for error in self._ask(do="validate", documents=ours, version=version)["errors"]
            if error
        ]

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, **request: object) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        reply: dict[str, Any] = json.loads(stdout.readline())
        if "refused" in reply:
            raise Refused(reply["refused"])
        return reply

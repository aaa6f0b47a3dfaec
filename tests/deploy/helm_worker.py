"""Renders, lints and validates charts, one request a line on standard input, in an environment of
its own: Helm as a library and Kubernetes' schemas weigh 350 MB. `charts.py` is its other end."""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python  # type: ignore[import-not-found] # in an environment of its own
import kubernetes_validate  # type: ignore[import-not-found]
import yaml


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "lint":
        return {"messages": helm_python.lint(request["chart"])["messages"]}
    if request["do"] == "validate":
        return {"errors": [wrong(doc, request["version"]) for doc in request["documents"]]}
    with helm_python.Chart.load(request["chart"]) as chart:
        files = chart.render(
            request["values"], name=request["name"], namespace=request["namespace"]
        )
    texts = {path.rpartition("/")[2]: text for path, text in files.items()}
    notes = texts.pop("NOTES.txt", "")
    documents = [doc for text in texts.values() for doc in yaml.safe_load_all(text) if doc]
    return {"documents": documents, "notes": notes}


def wrong(document: dict[str, Any], version: str) -> str:
    """What a Kubernetes of this version would refuse of it."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{document['kind']} {'.'.join(map(str, error.path))}: {error.message}"
    return ""


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except helm_python.HelmError as error:
        reply = {"refused": str(error)}
    print(json.dumps(reply, default=str), flush=True)

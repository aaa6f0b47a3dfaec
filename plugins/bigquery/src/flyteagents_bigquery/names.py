"""The shapes of BigQuery's identifiers. They come over the wire and end up in URLs."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

# Old projects belong to a domain: "example.com:project".
Project = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
Location = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,1024}$")]

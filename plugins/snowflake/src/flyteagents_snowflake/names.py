"""The shapes of Snowflake's names. They come over the wire and end up in URLs, URIs and SQL."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

QueryId = Annotated[
    str, StringConstraints(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
]
"""The id of a query, which the SQL API calls a statement handle."""
Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
"""A user, role, warehouse, database or schema, quoted as in SQL where it needs to be."""
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')


def exact(identifier: str) -> str:
    """The name that SQL means by `identifier`. The SQL API takes names as they are, where the
    driver reads them as SQL does: in upper case unless they are quoted."""
    if _PLAIN.fullmatch(identifier):
        return identifier.upper()
    quoted = _QUOTED.fullmatch(identifier)
    return quoted[1].replace('""', '"') if quoted else identifier


def quoted(identifier: str) -> str:
    """The same name, as SQL has it whatever is in it."""
    return '"{}"'.format(exact(identifier).replace('"', '""'))

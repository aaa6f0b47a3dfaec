"""What a vendor answers: the base of its models, and what their fields have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from flyteagents import Reply, Unavailable

__all__ = ["AnswerPart", "json_object", "moment", "no_page"]

_END = datetime.max.replace(tzinfo=timezone.utc).timestamp() * 1000 - 1000


def json_object(reply: Reply) -> Mapping[str, Any]:
    """The JSON object in a reply, for an agent's `explain`; empty for whatever else is there, such
    as a proxy's page."""
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def no_page(reply: Reply) -> Reply:
    """The reply, where nobody reads its body: a cancel's yes, say. Raises Unavailable for a page of
    HTML, with which a gateway answers in a vendor's place, at times with a 200."""
    html = "html" in reply.headers.get("content-type", "").lower()
    if html or reply.body.lstrip()[:1] == b"<":
        raise Unavailable(f"the reply ({reply.status}) is a page, and none of the vendor's")
    return reply


def moment(milliseconds: float | None) -> datetime | None:
    """The time that is so many milliseconds after 1970 began, UTC; None for none, for 0, by which
    vendors say that something has not been yet, and for what is beyond all calendars."""
    if milliseconds is None or not 0 < milliseconds < _END:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


class AnswerPart(BaseModel):
    """Base of the models of a vendor's answers. A null is a field that is not there, so a field
    with a default need not allow None; fields that no model has are ignored, since vendors add
    them.

    ```python
    class State(AnswerPart):
        model_config = ConfigDict(alias_generator=to_camel)   # where the vendor writes camelCase

        life_cycle: str = ""
    ```
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        # Mostly there is none, and each part of each poll's answer passes here. JSON's objects are
        # dicts, and to ask for any Mapping costs as much as all the rest.
        if not isinstance(values, dict) or None not in values.values():
            return values
        return {name: value for name, value in values.items() if value is not None}

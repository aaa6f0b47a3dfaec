"""The query tag: whose a statement is, in Snowflake's history and in its bills, and the key by
which it is found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flyteagents import Task
from flyteagents.kit.tags import TagRules, flyte_ids

# Letters; Snowflake takes no longer QUERY_TAG.
LIMIT = 2000
_VALUES = TagRules(count=20, length=120, letters=r"\w .:/@+=-")


def query_tag(task: Task[Any], given: str | None = None) -> str:
    """A JSON object. The user's own tag is kept: its members, where it is an object too, else as
    `user`. Where there is no room for all, Flyte's ids go first."""
    needed = {"key": task.key.hex, "fp": str(task.fingerprint)}
    ids = _VALUES.fit(ours=flyte_ids(task.identity), given={}, needed={})

    for ours in ({**needed, **ids}, needed):
        for theirs in (_members(given), {"user": given} if given else {}):
            text = _dump({**theirs, "flyte": ours})
            if len(text) <= LIMIT:
                return text
    room = LIMIT - len(_dump({"user": "", "flyte": needed}))
    # Escaped, a letter may take more than one place.
    cut = next(n for n in range(room, -1, -1) if len(json.dumps((given or "")[:n])) - 2 <= room)
    return _dump({"user": (given or "")[:cut], "flyte": needed})


def marks(tag: str) -> tuple[str, str]:
    """The key and the fingerprint in a tag of ours; empty where it is none."""
    try:
        ours = json.loads(tag)["flyte"]
        return str(ours["key"]), str(ours["fp"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _members(given: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(given or "{}")
    except ValueError:
        return {"user": given}
    return found if isinstance(found, dict) else {"user": given}


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

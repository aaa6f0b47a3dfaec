"""Flyte's ids on a vendor's jobs: tags, labels, whatever the vendor calls them.

They say whose a job is in the vendor's console and bills, and hold what the agent itself must
find again (the fingerprint, say).

```python
LABELS = TagRules(count=64, length=63, letters="a-z0-9_-", lower=True)

labels = LABELS.fit(
    ours=flyte_ids(task.identity, prefix="flyte-"),
    given=task.config.labels,
    needed={"flyte-fp": str(task.fingerprint)},
)
```
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flyteagents import Identity, InvalidTask

__all__ = ["TagRules", "flyte_ids"]

_HASH = 8


def flyte_ids(identity: Identity, prefix: str = "") -> dict[str, str]:
    """Who asked for a job, the most telling first: project, domain, exec, node, task, attempt
    and org, each with `prefix` before it. What Flyte did not say is left out."""
    ids = {
        "project": identity.project,
        "domain": identity.domain,
        "exec": identity.execution,
        "node": identity.node,
        "task": identity.task,
        "attempt": str(identity.attempt),
        "org": identity.organization,
    }
    return {f"{prefix}{name}": value for name, value in ids.items() if value}


@dataclass(frozen=True)
class TagRules:
    """What a vendor allows.

    count: tags of one job, at most.
    length: letters of a value, at most.
    letters: those that a value may have, as in a regular expression's brackets; the others
        become "_".
    lower: whether values are in lower case.
    """

    count: int
    length: int
    letters: str = "A-Za-z0-9_-"
    lower: bool = False

    def fit(
        self, ours: Mapping[str, str], given: Mapping[str, str], needed: Mapping[str, str]
    ) -> dict[str, str]:
        """All of `needed`, as many of the user's (`given`) as there is room for beside those,
        and then of `ours`.

        A user's tag stays as it is and wins over ours of its name; only what is needed wins over
        it. Raises InvalidTask where the user has more than the vendor allows.
        """
        if len(given) > self.count:
            raise InvalidTask(f"the task has {len(given)} tags or labels; {self.count} are allowed")

        # By name: a task's maps come in another order each time, and repeats must be the same.
        theirs = [item for item in sorted(given.items()) if item[0] not in needed]
        tags = dict(theirs[: max(self.count - len(needed), 0)])

        for name, value in ours.items():
            if len(tags) + len(needed) < self.count and name not in needed:
                tags.setdefault(name, self.value(value))
        return {**tags, **{name: self.value(value) for name, value in needed.items()}}

    def value(self, text: str) -> str:
        """`text` in the letters allowed; one that is too long ends in a hash of all of it."""
        value = re.sub(f"[^{self.letters}]", "_", text.lower() if self.lower else text)
        if len(value) <= self.length:
            return value
        digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
        return f"{value[: self.length - _HASH - 1]}-{digest}"

"""Accounts, in every form that Snowflake has for one: where each is, who it is to a token, and its
page in Snowsight.

| form | host, before .snowflakecomputing.com | in a token |
|---|---|---|
| `org-account` | `org-account` | `ORG-ACCOUNT` |
| `locator` | `locator` | `LOCATOR` |
| `locator.region`, `locator.region.cloud` | the same | `LOCATOR` |
| `....privatelink` | the same | as without |
| `account-id.global` | the same | `ACCOUNT` |

https://docs.snowflake.com/en/user-guide/admin-account-identifier
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyteagents import InvalidTask
from flyteagents.kit.texts import excerpt

SNOWSIGHT = "https://app.snowflake.com"
_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*){0,3}")
_AROUND = re.compile(r"^https?://|(?:\.snowflakecomputing\.(?:com|cn))?/*$", re.IGNORECASE)
_HOME = "us-west-2"
"""The region of locators that name none."""


@dataclass(frozen=True)
class Account:
    """An account. Raises InvalidTask for a name that has none of the forms: it becomes a host."""

    name: str

    def __post_init__(self) -> None:
        name = _AROUND.sub("", self.name.strip())
        if not _FORM.fullmatch(name):
            raise InvalidTask(
                f"{excerpt(self.name, 100)!r} is not a Snowflake account; write it as ORG-ACCOUNT "
                "or as LOCATOR.REGION"
            )
        object.__setattr__(self, "name", name)

    def within(self, region: str) -> Account:
        """The account in the region that the driver's parameter of that name says, which replaces
        its own. Raises InvalidTask."""
        label = self.name.partition(".")[0]
        return self if region in ("", _HOME) else Account(f"{label}.{region}")

    def host(self) -> str:
        parts = self.name.lower().split(".")
        china = len(parts) > 1 and parts[1].startswith("cn-")
        # A certificate's names have no underscores.
        parts[0] = parts[0].replace("_", "-")
        return f"{'.'.join(parts)}.snowflakecomputing.{'cn' if china else 'com'}"

    @property
    def issuer(self) -> str:
        """What a token says for it: no region, no cloud, in upper case."""
        separator = "-" if ".global" in self.name.lower() else "."
        return self.name.partition(separator)[0].upper()

    def query_page(self, query_id: str) -> str:
        """The query's page in Snowsight."""
        page = f"#/compute/history/queries/{query_id}/detail"
        label, *region = self.name.lower().split(".")
        if region[-1:] == ["global"]:
            # What such a name leads to is known to Snowflake alone; its old console redirects.
            return f"https://{self.host()}/console#/monitoring/queries/detail?queryId={query_id}"
        private = region[-1:] == ["privatelink"]
        region = region[:-1] if private else region

        if "-" in label and not region:
            organization, _, account = label.partition("-")
            where, front = f"{organization}/{account}", f"app-{label.replace('_', '-')}"
        else:
            area = ".".join(region) or _HOME
            where, front = f"{area}/{label}", f"app.{area}"
        start = f"https://{front}.privatelink.snowflakecomputing.com" if private else SNOWSIGHT
        if region and region[0].startswith("cn-"):
            start = start.replace(".com", ".cn")
        return f"{start}/{where}/{page}"

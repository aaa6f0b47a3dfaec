"""Accounts in all their forms, and names that are not to become anything else."""

from __future__ import annotations

import pytest

from flyteagents import InvalidTask
from flyteagents_snowflake.names import exact, quoted
from flyteagents_snowflake.places import Account

PAGE = "#/compute/history/queries/Q/detail"
COM = "snowflakecomputing.com"


@pytest.mark.parametrize(
    ("name", "host", "issuer", "page"),
    [
        ("myorg-acct", f"myorg-acct.{COM}", "MYORG-ACCT", "app.snowflake.com/myorg/acct"),
        (
            "MyOrg-my_acct",
            f"myorg-my-acct.{COM}",
            "MYORG-MY_ACCT",
            "app.snowflake.com/myorg/my_acct",
        ),
        ("myorg-a-b", f"myorg-a-b.{COM}", "MYORG-A-B", "app.snowflake.com/myorg/a-b"),
        ("xy12345", f"xy12345.{COM}", "XY12345", "app.snowflake.com/us-west-2/xy12345"),
        (
            "xy12345.us-east-2.aws",
            f"xy12345.us-east-2.aws.{COM}",
            "XY12345",
            "app.snowflake.com/us-east-2.aws/xy12345",
        ),
        (
            "xy12345.eu-central-1",
            f"xy12345.eu-central-1.{COM}",
            "XY12345",
            "app.snowflake.com/eu-central-1/xy12345",
        ),
        (
            "xy12345.cn-northwest-1",
            "xy12345.cn-northwest-1.snowflakecomputing.cn",
            "XY12345",
            "app.snowflake.cn/cn-northwest-1/xy12345",
        ),
        (
            "myorg-acct.privatelink",
            f"myorg-acct.privatelink.{COM}",
            "MYORG-ACCT",
            f"app-myorg-acct.privatelink.{COM}/myorg/acct",
        ),
        (
            "xy12345.us-east-1.privatelink",
            f"xy12345.us-east-1.privatelink.{COM}",
            "XY12345",
            f"app.us-east-1.privatelink.{COM}/us-east-1/xy12345",
        ),
        (f"https://xy12345.us-east-1.{COM}/", f"xy12345.us-east-1.{COM}", "XY12345", None),
    ],
)
def test_every_form_of_an_account_has_its_host_its_issuer_and_its_page(
    name: str, host: str, issuer: str, page: str | None
) -> None:
    account = Account(name)
    assert (account.host(), account.issuer) == (host, issuer)
    if page is not None:
        assert account.query_page("Q") == f"https://{page}/{PAGE}"


def test_a_replicated_account_goes_by_its_own_name() -> None:
    account = Account("acct-ext123.global")
    assert (account.host(), account.issuer) == (f"acct-ext123.global.{COM}", "ACCT")
    assert account.query_page("Q").startswith(f"https://acct-ext123.global.{COM}/console#/")


@pytest.mark.parametrize(
    ("account", "region", "host"),
    [
        ("xy12345", "eu-central-1", f"xy12345.eu-central-1.{COM}"),
        ("xy12345.us-east-1", "eu-central-1", f"xy12345.eu-central-1.{COM}"),
        ("xy12345", "us-west-2", f"xy12345.{COM}"),
        ("xy12345", "cn-north-1", "xy12345.cn-north-1.snowflakecomputing.cn"),
    ],
)
def test_the_drivers_region_replaces_the_accounts(account: str, region: str, host: str) -> None:
    assert Account(account).within(region).host() == host


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a/b",
        "evil.example/x",
        "a@evil",
        "a:443",
        "a..b",
        ".a",
        "a?b",
        "a#b",
        "a.b.c.d.e",
        "a%2fb",
        "a\nb",
        "-a",
    ],
)
def test_what_is_no_account_is_refused(name: str) -> None:
    with pytest.raises(InvalidTask, match="is not a Snowflake account"):
        Account(name)


def test_a_region_cannot_become_another_host() -> None:
    with pytest.raises(InvalidTask):
        Account("xy12345").within("evil.example/x")


@pytest.mark.parametrize(
    ("identifier", "name", "sql"),
    [
        ("my_db", "MY_DB", '"MY_DB"'),
        ('"my Db"', "my Db", '"my Db"'),
        ('"a""b"', 'a"b', '"a""b"'),
        ("my-db", "my-db", '"my-db"'),
        ('x".y; DROP', 'x".y; DROP', '"x"".y; DROP"'),
    ],
)
def test_a_name_is_what_sql_means_by_it_and_no_more(identifier: str, name: str, sql: str) -> None:
    assert (exact(identifier), quoted(identifier)) == (name, sql)

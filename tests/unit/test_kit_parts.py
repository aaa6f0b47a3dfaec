"""Tags, tenants, addresses, pages, outputs, answers and values of the vendor kit."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from flyteagents import (
    Forbidden,
    Identity,
    InvalidTask,
    Kind,
    LogLine,
    Reply,
    Settings,
    Type,
    Unauthenticated,
    Unavailable,
)
from flyteagents.kit.answers import AnswerPart, json_object, moment, no_page
from flyteagents.kit.configs import ConfigPart
from flyteagents.kit.credentials import ByTenant, TenantPatterns, check_all, for_tenant
from flyteagents.kit.limits import time_limit
from flyteagents.kit.outputs import first_fitting, table_output
from flyteagents.kit.pages import page
from flyteagents.kit.settings import BaseUrl
from flyteagents.kit.tags import TagRules, flyte_ids
from flyteagents.kit.values import json_text

WHO = Identity("proj", "prod", "org", "exec", "n0", "task.name", attempt=2)
RULES = TagRules(count=5, length=20, letters="a-z0-9_-", lower=True)
TABLE = Type(Kind.STRUCTURED_DATASET)
NONE = Type(Kind.NONE)


class TenantSettings(Settings):
    url: BaseUrl = "https://jobs.example"
    credentials: ByTenant = {}
    serve: TenantPatterns = ("*/*",)


def test_flytes_ids_are_told_by_their_importance_and_the_empty_ones_are_not() -> None:
    assert list(flyte_ids(WHO)) == ["project", "domain", "exec", "node", "task", "attempt", "org"]
    assert flyte_ids(Identity(project="p"), "flyte-") == {
        "flyte-project": "p",
        "flyte-attempt": "0",
    }


def test_the_users_tags_stay_and_ours_take_the_room_that_is_left() -> None:
    tags = RULES.fit(flyte_ids(WHO), {"team": "Data"}, {"fp": "1-ab"})
    assert tags == {
        "team": "Data",
        "project": "proj",
        "domain": "prod",
        "exec": "exec",
        "fp": "1-ab",
    }


def test_a_users_tag_wins_over_ours_and_what_is_needed_over_a_users() -> None:
    tags = RULES.fit({"project": "ours"}, {"project": "theirs", "fp": "forged"}, {"fp": "real"})
    assert tags == {"project": "theirs", "fp": "real"}


@given(
    ours=st.dictionaries(st.sampled_from("abcdefgh"), st.text()),
    theirs=st.dictionaries(st.sampled_from("defghijklmn"), st.text(), max_size=5),
    needed=st.dictionaries(st.sampled_from("hijxy"), st.text(), max_size=3),
)
def test_tags_always_fit(
    ours: dict[str, str], theirs: dict[str, str], needed: dict[str, str]
) -> None:
    tags = RULES.fit(ours, theirs, needed)
    assert len(tags) <= RULES.count
    assert needed.keys() <= tags.keys()
    assert all(tags[name] == RULES.value(value) for name, value in needed.items())
    kept = theirs.keys() & tags.keys() - needed.keys()
    assert len(kept) == min(len(theirs.keys() - needed.keys()), RULES.count - len(needed))
    assert tags == RULES.fit(ours, dict(reversed(theirs.items())), needed)


class Part(ConfigPart):
    queue: str = "default"
    size: int | None = None
    flag: bool = True


def test_what_an_sdk_writes_for_what_was_left_out_says_nothing() -> None:
    assert Part.model_validate({"queue": "", "size": None}) == Part()
    assert Part.model_validate({"flag": False, "size": 0}) == Part(flag=False, size=0)
    with pytest.raises(ValidationError):
        Part.model_validate(3)
    with pytest.raises(ValidationError, match="frozen"):
        Part().size = 3  # type: ignore[misc] # that it is frozen is what is tested


def test_more_tags_than_there_may_be_are_refused() -> None:
    with pytest.raises(InvalidTask, match="6 tags or labels; 5 are allowed"):
        RULES.fit({}, dict.fromkeys("abcdef", "x"), {})


def test_a_value_has_the_letters_that_are_allowed_and_is_cut_with_a_hash() -> None:
    assert RULES.value("a.B/C d") == "a_b_c_d"
    assert TagRules(1, 9).value("a.B") == "a_B"
    long = RULES.value("x" * 30)
    assert len(long) == RULES.length
    assert long != RULES.value("x" * 31)


def test_the_first_pattern_that_fits_counts() -> None:
    mapping = {"proj/dev": "a", "*/prod": "b", "*/*": "c"}
    assert for_tenant(mapping, WHO) == "b"
    assert for_tenant(mapping, Identity("proj", "dev")) == "a"
    assert for_tenant({"other/*": "x"}, WHO) is None
    assert for_tenant({"proj/*": "x"}, Identity("proj/x", "prod")) is None


async def test_a_check_tries_all_credentials_and_tells_all_that_fail() -> None:
    tried: list[str] = []
    refused = {"": False, "robot": False, "sales": False}

    async def own() -> str:
        return await tenant("")

    async def tenant(name: str) -> str:
        tried.append(name)
        if refused[name]:
            kind = Unauthenticated if name else Forbidden
            raise kind(f"{name or 'own'} is refused", code="E7" if name else None)
        return f"{name or 'own'} is good"

    tenants = {"a/*": "sales", "*/prod": "robot", "b/*": "sales"}
    told = await check_all(own, tenants, tenant)
    assert told == "own is good; a/*, b/*: sales is good; */prod: robot is good"
    assert tried == ["", "sales", "robot"]

    refused.update({"": True, "robot": True})
    with pytest.raises(Forbidden) as caught:
        await check_all(own, tenants, tenant)
    assert str(caught.value) == "own is refused; */prod: [E7] robot is refused"


def test_credentials_by_tenant_are_json_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS", json.dumps({"sales/*": "sales_key"}))
    monkeypatch.setenv("SERVE", "sales/*, */prod")
    made = TenantSettings()
    assert made.credentials == {"sales/*": "sales_key"}
    assert made.serve == ("sales/*", "*/prod")
    monkeypatch.setenv("CREDENTIALS", " ")
    assert TenantSettings().credentials == {}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CREDENTIALS", "{", "it is not JSON"),
        ("CREDENTIALS", '{"sales": "key"}', "'sales' is not a project/domain pattern"),
        ("CREDENTIALS", '{"a/b": 1}', "string"),
        ("SERVE", "a/b/c", "'a/b/c' is not a project/domain pattern"),
    ],
)
def test_a_pattern_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=words):
        TenantSettings()


def test_an_address_has_no_slash_at_its_end() -> None:
    assert TenantSettings(url="https://a.example:8443/x/").url == "https://a.example:8443/x"
    assert TenantSettings(url=" http://[::1]:80 ").url == "http://[::1]:80"


@pytest.mark.parametrize(
    "url",
    ["a.example", "ftp://a", "https://", "https:///x", "http://a:b", "http://a?x=1", "http://["],
)
def test_what_is_no_address_is_told_without_quoting_it(url: str) -> None:
    with pytest.raises(ValidationError, match="not an http or https URL") as raised:
        TenantSettings(url=url)
    assert repr(url) not in raised.value.errors()[0]["msg"]


def test_a_log_is_read_page_by_page() -> None:
    lines = [LogLine(str(number)) for number in range(5)]
    token, read = "", []
    for _ in range(3):
        found = page(lines, token, 2)
        read.append([line.message for line in found.lines])
        token = found.next
    assert read == [["0", "1"], ["2", "3"], ["4"]]
    assert token == ""
    assert page(lines, "²", 1).lines[0].message == "0"
    assert page(lines, "99", 1).lines == []
    assert len(page(lines, "", 0).lines) == 1


def test_a_page_of_a_log_that_lies_within_a_private_key_is_masked() -> None:
    key = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQ", "-----END PRIVATE KEY-----"]
    lines = [LogLine(line) for line in ("before", *key, "behind")]
    read = [page(lines, str(number), 1).lines[0].message for number in range(5)]
    assert read == ["before", *["[redacted]"] * 3, "behind"]


def test_the_declared_table_is_found_also_where_it_is_optional() -> None:
    optional = Type(Kind.UNION, (NONE, TABLE))
    assert table_output({"n": Type(Kind.INTEGER), "t": optional}) == ("t", TABLE)
    assert table_output({"n": Type(Kind.INTEGER)}) is None
    assert table_output({"f": Type(Kind.BLOB)}) is None
    assert table_output({"f": Type(Kind.BLOB)}, (Kind.BLOB,)) == ("f", Type(Kind.BLOB))
    with pytest.raises(InvalidTask, match="declares a, b"):
        table_output({"a": TABLE, "b": optional})


def test_the_first_variant_that_fits_is_found_also_in_a_union_in_a_union() -> None:
    number, text = Type(Kind.INTEGER), Type(Kind.STRING)
    nested = Type(Kind.UNION, (NONE, Type(Kind.UNION, (number, text))))
    assert first_fitting(nested, lambda of: of.kind is not Kind.NONE) == number
    assert first_fitting(nested, lambda of: of.kind is Kind.STRING) == text
    assert first_fitting(nested, lambda of: of.kind is Kind.BLOB) is None
    assert first_fitting(text, lambda of: True) == text


class Answer(AnswerPart):
    model_config = ConfigDict(alias_generator=to_camel)

    life_cycle: str = ""
    count: int = 0


def test_a_null_in_an_answer_is_a_field_that_is_not_there() -> None:
    found = Answer.model_validate({"lifeCycle": None, "count": 3, "new": {"of": "tomorrow"}})
    assert (found.life_cycle, found.count) == ("", 3)
    assert found.model_fields_set == {"count"}
    with pytest.raises(ValidationError):
        Answer.model_validate([])


def test_json_is_the_same_text_for_the_same_value() -> None:
    assert json_text({"b": "ü", "a": [1, 0.5, None]}, str) == '{"a":[1,0.5,null],"b":"ü"}'
    assert json_text({"at": date(2024, 1, 2)}, str) == '{"at":"2024-01-02"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2, "a": 3}])
def test_a_value_that_is_no_json_is_refused(value: object) -> None:
    def plain(value: object) -> object:
        raise TypeError(f"a {type(value).__name__} is no JSON")

    with pytest.raises(InvalidTask, match="does not fit JSON"):
        json_text(value, plain)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"code": "x"}', {"code": "x"}),
        (b"[1]", {}),
        (b"<html>bad gateway</html>", {}),
        (b"", {}),
        (b"[" * 100_000, {}),
    ],
)
def test_an_error_reply_has_a_json_object_or_nothing(body: bytes, found: object) -> None:
    assert json_object(Reply(502, {}, body)) == found


def test_a_gateways_page_is_no_yes() -> None:
    for headers, body in (({"content-type": "text/html"}, b""), ({}, b" \n<!doctype html>")):
        with pytest.raises(Unavailable, match="is a page"):
            no_page(Reply(200, headers, body))
    for body in (b"", b"{}", b"ok"):
        assert no_page(Reply(200, {"content-type": "application/json"}, body)).body == body


def test_a_moment_is_in_utc_and_0_is_none() -> None:
    assert moment(1_700_000_000_250) == datetime(
        2023, 11, 14, 22, 13, 20, 250_000, tzinfo=timezone.utc
    )
    assert [moment(nothing) for nothing in (None, 0, -1, 1e18, math.inf, math.nan)] == [None] * 6


def test_a_job_may_take_a_little_longer_than_its_task() -> None:
    assert time_limit(timedelta(minutes=5)) == timedelta(minutes=7)
    assert time_limit(None) is None

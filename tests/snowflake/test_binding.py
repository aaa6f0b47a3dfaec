"""Inputs in statements: as Snowflake's own driver writes them, or sent beside."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from datetime import date, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.snowflake.engine import Context, Engine
from tests.snowflake.theirs import answers

from flyteagents import Binary, Blob, InvalidTask, StructuredDataset
from flyteagents_snowflake.binding import beside, rows, written
from flyteagents_snowflake.literals import literal

UTC = timezone.utc
NOON = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
WEST = timezone(timedelta(hours=-5, minutes=-30))
# Value and text, as snowflake-connector-python 4.8.1 writes it.
VECTORS: list[tuple[object, str]] = [
    (1, "1"),
    (-2, "-2"),
    (2**70, "1180591620717411303424"),
    (1.5, "1.5"),
    (1e300, "1e+300"),
    (-0.0, "-0.0"),
    (True, "TRUE"),
    (None, "NULL"),
    ("a'b\n\\", r"'a\'b\n\\'"),
    ('\r\t"%', "'\\r\t\"%'"),
    ("", "''"),
    ("ünï©ode 🦆", "'ünï©ode 🦆'"),
    (b"\x01\xff", "X'01FF'"),
    (NOON, "'2024-01-02 03:04:05+00:00'"),
    (NOON.replace(microsecond=6), "'2024-01-02 03:04:05.000006+00:00'"),
    (NOON.replace(tzinfo=WEST), "'2024-01-02 03:04:05-05:30'"),
    (NOON.replace(tzinfo=None), "'2024-01-02 03:04:05'"),
    (NOON.replace(year=24, tzinfo=None), "'24-01-02 03:04:05'"),
    (date(2024, 1, 2), "'2024-01-02'"),
    (timedelta(hours=1, seconds=5), "'01:00:05'"),
    (timedelta(seconds=-5), "'-1:59:55'"),
    (timedelta(days=3, microseconds=7), "'72:00:00.000007'"),
    (dt.time(1, 2, 3, 4), "'01:02:03.000004'"),
    ([1, 2], "1,2"),
    (("a", "b'"), r"'a','b\''"),
    ([], ""),
    ([None, True, 1.5], "NULL,TRUE,1.5"),
    ([[1, 2], [3]], "1,2,3"),
]
STATEMENTS: list[tuple[str, Mapping[str, object]]] = [
    ("SELECT 'a%' LIKE '%s'", {}),
    ("SELECT %(x)s, '100%%' -- %(x)s", {"x": "it's"}),
    ("SELECT %(x)s", {"x": "%(y)s %% %s", "y": 1}),
    ("%%(x)s %(x)s%%%(x)s", {"x": 1}),
]


INJECTED: list[tuple[str, object]] = [
    ("SELECT '%(x)s'", "; DROP TABLE t; --"),
    ("SELECT 'it''s \\' %(x)s'", ""),
    ("SELECT 'open %(x)s", "a"),
    ("SELECT '%(x)s'", ["a"]),
    ("SELECT 1 /* %(x)s */", "*/; DROP TABLE t; /*"),
    ('SELECT 1 AS "%(x)s"', '"; DROP TABLE t; --'),
    ("EXECUTE IMMEDIATE $$ SELECT %(x)s $$", "$$; DROP TABLE t; --"),
]


@pytest.mark.parametrize(("statement", "value"), INJECTED)
def test_an_input_ends_no_literal_and_no_comment(statement: str, value: object) -> None:
    with pytest.raises(InvalidTask, match=r"%\(x\)s stands within"):
        written(statement, {"x": value})


def test_an_input_within_quotes_that_it_does_not_end_is_written() -> None:
    assert written("SELECT '%(x)s', '%(y)s'", {"x": 5, "y": None}) == "SELECT '5', 'NULL'"
    assert written("$$ SELECT %(x)s $$ -- %(x)s\n/* %(x)s */", {"x": "a\n$"}) == (
        r"$$ SELECT 'a\n$' $$ -- 'a\n$'" + "\n" + r"/* 'a\n$' */"
    )
    with pytest.raises(InvalidTask, match="stands within"):
        rows("INSERT INTO t VALUES ('%(x)s')", {"x": ["a"]})


def test_a_minus_before_a_negative_number_begins_no_comment() -> None:
    assert written("SELECT 10-%(x)s, 10 - %(x)s", {"x": -5}) == "SELECT 10- -5, 10 - -5"


@pytest.mark.parametrize(("value", "text"), VECTORS, ids=lambda value: repr(value)[:40])
def test_a_value_is_written_as_the_driver_does(value: object, text: str) -> None:
    assert literal(value) == text
    assert written("SELECT %(x)s", {"x": value}) == f"SELECT {text}"


def test_the_driver_itself_agrees() -> None:
    cases = [("SELECT %(x)s", {"x": value}) for value, _ in VECTORS] + STATEMENTS
    theirs = [one["sent"] for one in answers("snowflake-driver", "driver_quotes.py", cases)]
    assert theirs == [written(statement, inputs) for statement, inputs in cases]


def test_what_the_driver_refuses_or_breaks_has_a_meaning() -> None:
    cases: list[tuple[object, str]] = [
        (math.nan, "'NaN'::FLOAT"),
        (math.inf, "'inf'::FLOAT"),
        (-math.inf, "'-inf'::FLOAT"),
        ({"b": [1, None], "a": "it's"}, r"""'{"a":"it\'s","b":[1,null]}'"""),
        ({"at": NOON, "raw": Binary(b"\x01")}, '\'{"at":"2024-01-02 03:04:05+00:00","raw":"01"}\''),
        (Blob("s3://b/f"), "'s3://b/f'"),
        (StructuredDataset("s3://b/t"), "'s3://b/t'"),
        (StructuredDataset("snowflake://u:a/w/d/s/orders"), "'d.s.orders'"),
        (
            StructuredDataset("snowflake://u/a/w/d/s/01b2c3d4-0000-1111-2222-333344445555"),
            "'01b2c3d4-0000-1111-2222-333344445555'",
        ),
        (Binary(b"\xaa"), "X'AA'"),
    ]
    for value, text in cases:
        assert literal(value) == text


def test_without_inputs_a_statement_stays_as_it_is() -> None:
    assert written("SELECT 'a%' LIKE '%(x)s %%'", {}) == "SELECT 'a%' LIKE '%(x)s %%'"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("LIKE 'a%'", "written %%"),
        ("SELECT %s", "written %%"),
        ("SELECT %(x)d", "written %%"),
        ("SELECT %(x).3s", "written %%"),
        ("SELECT %(x)-9s", "written %%"),
        ("SELECT 5 %", "written %%"),
        ("SELECT %(y)s", "no input for %\\(y\\)s here; there are: x"),
    ],
)
def test_a_percent_sign_that_names_no_input_is_refused_in_words(statement: str, words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        written(statement, {"x": "a"})


def test_what_has_no_text_is_refused() -> None:
    with pytest.raises(InvalidTask, match="type object"):
        literal(object())
    with pytest.raises(InvalidTask, match="does not fit JSON"):
        literal({"x": math.nan})


BATCHES: list[tuple[str, dict[str, list[Any]]]] = [
    ("INSERT INTO t (a, b) VALUES (%(a)s, %(b)s)", {"a": [1, 2], "b": ["x", "y'"]}),
    ("insert into t values(%(a)s, UPPER(%(b)s)) ", {"a": [1], "b": [None]}),
    ("INSERT INTO t VALUES (%(a)s, '100%%', %(a)s)", {"a": [1.5, True]}),
]


def test_a_batch_is_the_rows_that_flyte_sdk_makes() -> None:
    theirs = [one["sent"] for one in answers("flyte-sdk", "batch_rows.py", BATCHES)]
    ours = [rows(statement, inputs) for statement, inputs in BATCHES]
    # It rewrites the word and the space behind it; Snowflake does not care.
    assert [" ".join(text.lower().replace("values(", "values (").split()) for text in ours] == [
        " ".join(text.lower().split()) for text in theirs
    ]


def test_a_batch_may_call_functions_in_functions_and_quote_parentheses() -> None:
    statement = (
        "INSERT INTO \"values (\" /* VALUES (1) */ VALUES (PARSE_JSON(UPPER(%(a)s)), ')', '\\')') "
        "-- done"
    )
    assert rows(statement, {"a": ["x", "y"]}) == statement.replace(
        "(PARSE_JSON(UPPER(%(a)s)), ')', '\\')')",
        "(PARSE_JSON(UPPER('x')), ')', '\\')'), (PARSE_JSON(UPPER('y')), ')', '\\')')",
    )


@pytest.mark.parametrize(
    ("statement", "inputs", "words"),
    [
        ("INSERT INTO t VALUES (%(a)s)", {"a": 1}, "all inputs are lists; these are none: a"),
        ("INSERT INTO t VALUES (%(a)s)", {"a": [1], "b": [1, 2]}, "a has 1, b has 2"),
        ("INSERT INTO t VALUES (%(a)s)", {"a": []}, "at least one row"),
        ("INSERT INTO t SELECT %(a)s", {"a": [1]}, "it has 0"),
        ("VALUES (%(a)s); VALUES (%(a)s)", {"a": [1]}, "it has 2"),
        ("INSERT INTO t VALUES (%(a)s", {"a": [1]}, "not closed"),
        ("DELETE FROM t WHERE n = %(a)s; INSERT INTO t VALUES (%(a)s)", {"a": [1]}, "no input"),
        ("INSERT INTO t VALUES (%(b)s)", {"a": [1]}, "no input"),
    ],
)
def test_what_is_no_batch_is_refused_in_words(
    statement: str, inputs: Mapping[str, object], words: str
) -> None:
    with pytest.raises(InvalidTask, match=words):
        rows(statement, inputs)


def test_inputs_may_be_sent_beside_the_statement() -> None:
    inputs: dict[str, object] = {
        "n": 7,
        "x": 1.5,
        "bad": math.nan,
        "b": False,
        "s": "it's",
        "none": None,
        "t": NOON,
        "naive": NOON.replace(tzinfo=None),
        "west": NOON.replace(tzinfo=WEST),
        "day": date(1970, 1, 3),
        "span": timedelta(seconds=5, microseconds=1),
        "raw": Binary(b"\x01\xff"),
        "map": {"a": 1},
        "many": ["p", "q"],
    }
    names = ", ".join(f"%({name})s" for name in inputs)
    statement, bindings = beside(f"SELECT {names}, '%%'", inputs)
    assert statement == f"SELECT {', '.join('?' for _ in range(13))}, ?,?, '%'"
    seconds = int(NOON.timestamp())
    west = int(NOON.replace(tzinfo=WEST).timestamp())
    assert [(one["type"], one["value"]) for one in bindings.values()] == [
        ("FIXED", "7"),
        ("REAL", "1.5"),
        ("REAL", "NaN"),
        ("BOOLEAN", "false"),
        ("TEXT", "it's"),
        ("TEXT", None),
        ("TIMESTAMP_TZ", f"{seconds}000000000 1440"),
        ("TIMESTAMP_NTZ", f"{seconds}000000000"),
        ("TIMESTAMP_TZ", f"{west}000000000 1110"),
        ("DATE", "172800000"),
        ("TIME", "5000001000"),
        ("BINARY", "01FF"),
        ("TEXT", '{"a":1}'),
        ("TEXT", "p"),
        ("TEXT", "q"),
    ]
    assert list(bindings) == [str(number) for number in range(1, 16)]
    with pytest.raises(InvalidTask, match="not a TIME"):
        beside("SELECT %(x)s", {"x": timedelta(days=2)})


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@given(text=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_no_text_gets_out_of_its_literal(engine: Engine, text: str) -> None:
    """What the engine reads is what went in, whatever is in it."""
    context = Context("u", "a", "r", "w", "d", "s", lambda _: ((), ()), str)
    session = engine.session(context)
    found = session.run(written("SELECT %(x)s AS x, 1 AS one", {"x": text}))
    session.close()
    assert found.rows == [[text, "1"]]

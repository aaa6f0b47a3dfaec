"""A result keeps every value, has the types that the task declares, or fails and says why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from tests.duckdb.driving import TABLE, Driver

import duckdb
from flyteagents import Column, Kind, Phase, Status, StructuredDataset, Type

INTEGER, FLOAT, STRING = Type(Kind.INTEGER), Type(Kind.FLOAT), Type(Kind.STRING)
DATETIME, DURATION, STRUCT = Type(Kind.DATETIME), Type(Kind.DURATION), Type(Kind.STRUCT)
DUCKDB = tuple(map(int, duckdb.__version__.split(".")[:2]))


def many(element: Type) -> Type:
    return Type(Kind.COLLECTION, (element,))


def mapped(element: Type) -> Type:
    return Type(Kind.MAP, (element,))


def declaring(**columns: Type) -> Mapping[str, Type]:
    fields = tuple(Column(name, type_) for name, type_ in columns.items())
    return {"results": Type(Kind.STRUCTURED_DATASET, columns=fields)}


def table_of(status: Status) -> StructuredDataset:
    assert status.outputs is not None, status
    table = status.outputs["results"]
    assert isinstance(table, StructuredDataset)
    return table


def written(status: Status) -> list[tuple[str, ...]]:
    """DuckDB's type and value of every column in the file, as texts."""
    with duckdb.connect() as connection:
        rows = f"read_parquet('{table_of(status).uri}/*.parquet')"
        columns = connection.execute(f"FROM {rows} LIMIT 0").description
        assert columns is not None
        values = ", ".join(f'CAST("{name}" AS VARCHAR)' for name, *_ in columns)
        row = connection.execute(f"SELECT {values} FROM {rows}").fetchone()
        assert row is not None
        return [(str(kind), value) for (_, kind, *_), value in zip(columns, row, strict=True)]


async def test_a_sum_of_integers_is_exact(driver: Driver) -> None:
    sql = "SELECT sum(n) AS total FROM (VALUES (9007199254740993), (0)) t(n)"
    for declared in (TABLE, declaring(total=INTEGER)):
        status = await driver.run(sql, declared=declared)
        assert written(status) == [("BIGINT", "9007199254740993")]
        assert table_of(status).columns == (Column("total", INTEGER),)
    scalar = await driver.run(sql, declared={"total": INTEGER})
    assert scalar.outputs == {"total": 9007199254740993}


# What Parquet lacks, and some of what it has: SQL, DuckDB's type in the file, the value there
# as text, Flyte's type.
TYPES = [
    ("1::UTINYINT", "UTINYINT", "1", INTEGER),
    ("18446744073709551615::UBIGINT", "UBIGINT", "18446744073709551615", INTEGER),
    ("9223372036854775807::HUGEINT", "BIGINT", "9223372036854775807", INTEGER),
    ("9223372036854775807::UHUGEINT", "BIGINT", "9223372036854775807", INTEGER),
    ("12.345::DECIMAL(38,3)", "DECIMAL(38,3)", "12.345", FLOAT),
    ("'x'::ENUM('x','y')", "VARCHAR", "x", STRING),
    ("'101'::BIT", "VARCHAR", "101", STRING),
    (
        "INTERVAL '-1 month 2000 hours 1 microsecond'",
        "VARCHAR",
        "-1 month 2000:00:00.000001",
        STRING,
    ),
    ("TIMETZ '10:00:00+02'", "VARCHAR", "10:00:00+02", STRING),
    ("TIME '10:00:00.000001'", "TIME", "10:00:00.000001", DURATION),
    ("DATE '2020-01-01'", "DATE", "2020-01-01", DATETIME),
    ("TIMESTAMP_S '2020-01-01'", "TIMESTAMP", "2020-01-01 00:00:00", DATETIME),
    (
        "TIMESTAMP_NS '2020-01-01 00:00:00.123456789'",
        "TIMESTAMP_NS",
        "2020-01-01 00:00:00.123456789",
        DATETIME,
    ),
    ("'ab'::BLOB", "BLOB", "ab", Type(Kind.BINARY)),
    ("true", "BOOLEAN", "true", Type(Kind.BOOLEAN)),
    ("[1::HUGEINT, NULL]", "BIGINT[]", "[1, NULL]", many(INTEGER)),
    ("array_value(1, 2)", "INTEGER[]", "[1, 2]", many(INTEGER)),
    ("[['a']]", "VARCHAR[][]", "[[a]]", many(many(STRING))),
    (
        "{'a': 5::HUGEINT, 'b c': 'x'}",
        'STRUCT(a BIGINT, "b c" VARCHAR)',
        "{'a': 5, 'b c': x}",
        STRUCT,
    ),
    ("MAP {'a': 5::HUGEINT}", "MAP(VARCHAR, BIGINT)", "{a=5}", mapped(INTEGER)),
    ("MAP {1: INTERVAL 1 DAY}", "MAP(INTEGER, VARCHAR)", "{1=1 day}", STRUCT),
]


async def test_every_type_is_written_so_that_its_value_is_kept(driver: Driver) -> None:
    selected = ", ".join(f"{sql} AS c{number}" for number, (sql, *_) in enumerate(TYPES))
    status = await driver.run(f"SELECT {selected}", declared=TABLE)
    found = [
        (*parquet, column.type)
        for parquet, column in zip(written(status), table_of(status).columns, strict=True)
    ]
    assert found == [tuple(expected) for _, *expected in TYPES]


async def test_integers_of_any_width_and_unions_are_text_and_structs(driver: Driver) -> None:
    big = "BIGNUM" if DUCKDB >= (1, 4) else "VARINT"
    status = await driver.run(
        f"SELECT '123456789012345678901234567890'::{big} AS big, union_value(n := 5) AS u",
        declared=TABLE,
    )
    (big_type, value), (union, _) = written(status)
    assert (big_type, value) == ("VARCHAR", "123456789012345678901234567890")
    assert union.startswith("STRUCT(")
    assert [column.type for column in table_of(status).columns] == [STRING, STRUCT]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("9223372036854775808::HUGEINT", "does not fit into 64 bits: 9223372036854775808"),
        ("[9223372036854775808::HUGEINT]", "does not fit into 64 bits"),
        ("{'a': [-9223372036854775809::HUGEINT]}", "does not fit into 64 bits"),
        ("MAP {'a': 9223372036854775808::UHUGEINT}", "does not fit into 64 bits"),
        ("'infinity'::TIMESTAMP", "Parquet and Flyte do not have: infinity"),
        ("'-infinity'::DATE", "Parquet and Flyte do not have: -infinity"),
    ],
)
async def test_a_value_that_parquet_cannot_have_fails_the_job_in_words(
    driver: Driver, sql: str, said: str
) -> None:
    # Of many rows one, and not the first: the values are looked at, not only the types.
    status = await driver.run(
        f"SELECT CASE WHEN i = 5000 THEN {sql} END AS v FROM range(9000) t(i)", declared=TABLE
    )
    assert status.phase is Phase.FAILED, status
    assert "the column v has a value that" in (status.message or "")
    assert said in (status.message or "")


@pytest.mark.parametrize(
    ("sql", "declared", "type_", "value"),
    [
        ("7::SMALLINT", INTEGER, "BIGINT", "7"),
        ("7.00::DECIMAL(9,2)", INTEGER, "BIGINT", "7"),
        ("7.0::DOUBLE", INTEGER, "BIGINT", "7"),
        ("7", FLOAT, "DOUBLE", "7.0"),
        ("0.1::DECIMAL(9,2)", FLOAT, "DOUBLE", "0.1"),
        (
            "170141183460469231731687303715884105727::HUGEINT",
            STRING,
            "VARCHAR",
            "170141183460469231731687303715884105727",
        ),
        (
            "'00000000-0000-0000-0000-000000000001'::UUID",
            STRING,
            "VARCHAR",
            "00000000-0000-0000-0000-000000000001",
        ),
        ("INTERVAL 3 MONTHS", DURATION, "INTERVAL", "3 months"),
        ("INTERVAL '1.5 seconds'", STRING, "VARCHAR", "00:00:01.5"),
        ("[1.0, 2.0]", many(INTEGER), "BIGINT[]", "[1, 2]"),
        ("[1, 2]", many(FLOAT), "DOUBLE[]", "[1.0, 2.0]"),
        ("MAP {'a': 1}", mapped(FLOAT), "MAP(VARCHAR, DOUBLE)", "{a=1.0}"),
        ("NULL", STRING, "VARCHAR", None),
        ("NULL", many(FLOAT), "DOUBLE[]", None),
        ("""'{"a": 1}'""", STRUCT, "JSON", '{"a": 1}'),
        ("DATE '2020-01-01'", DATETIME, "DATE", "2020-01-01"),
        ("1", Type(Kind.UNION, (STRING, FLOAT, Type(Kind.NONE))), "DOUBLE", "1.0"),
    ],
)
async def test_a_declared_column_gets_its_type(
    driver: Driver, sql: str, declared: Type, type_: str, value: str | None
) -> None:
    status = await driver.run(f"SELECT {sql} AS v", declared=declaring(v=declared))
    assert written(status) == [(type_, value)]


@pytest.mark.parametrize(
    ("sql", "declared", "said"),
    [
        ("'7'", INTEGER, "the column v is VARCHAR, and the task declares it as integer"),
        ("7", STRING, "is not string: 7"),
        ("true", INTEGER, "is BOOLEAN, and the task declares it as integer"),
        ("TIMESTAMP '2020-01-01'", STRING, "is TIMESTAMP, and the task declares it as string"),
        ("1.5", INTEGER, "is no integer of 64 bits: 1.5"),
        ("'nan'::DOUBLE", INTEGER, "is no integer of 64 bits: nan"),
        ("9007199254740993", FLOAT, "is no float exactly: 9007199254740993"),
        ("[1.5]", many(INTEGER), "is no integer of 64 bits: [1.5]"),
        ("[1]", many(STRING), "the task declares it as collection of string"),
        ("MAP {1: 1}", mapped(INTEGER), "the task declares it as map of integer"),
        ("INTERVAL '1 microsecond'", DURATION, "Parquet's intervals cannot hold"),
        ("INTERVAL '-1 second'", DURATION, "Parquet's intervals cannot hold"),
        ("INTERVAL '2000 hours'", DURATION, "Parquet's intervals cannot hold"),
        ("[INTERVAL 1 DAY]", many(DURATION), "the task declares it as collection of duration"),
        ("'no tree'", STRUCT, "JSON"),
    ],
)
async def test_a_column_that_is_not_what_is_declared_fails_the_job_in_words(
    driver: Driver, sql: str, declared: Type, said: str
) -> None:
    status = await driver.run(f"SELECT {sql} AS v", declared=declaring(v=declared))
    assert status.phase is Phase.FAILED, status
    assert said in (status.message or "")


@pytest.mark.parametrize(
    ("sql", "declared", "said"),
    [
        ("9223372036854775808::HUGEINT", INTEGER, "does not fit into 64 bits"),
        ("18446744073709551615::UBIGINT", INTEGER, "does not fit into 64 bits"),
        ("avg(i)", INTEGER, "is no integer of 64 bits: 0.5"),
        ("'infinity'::TIMESTAMP", DATETIME, "Flyte do not have: infinity"),
        ("TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", DATETIME, "finer than a microsecond"),
        ("INTERVAL 1 MONTH", DURATION, "has months"),
        ("TIMETZ '10:00:00+02'", DURATION, "TIME WITH TIME ZONE"),
        ("'x'", Type(Kind.BOOLEAN), "is VARCHAR, and the task declares it as boolean"),
    ],
)
async def test_a_scalar_output_is_exact_or_fails_in_words(
    driver: Driver, sql: str, declared: Type, said: str
) -> None:
    status = await driver.run(
        f"SELECT {sql} AS v, sum(i) FROM range(2) t(i)", declared={"v": declared}
    )
    assert status.phase is Phase.FAILED, status
    assert said in (status.message or "")


async def test_scalar_outputs_of_texts_and_durations_are_whole(driver: Driver) -> None:
    status = await driver.run(
        "SELECT INTERVAL '-1 month 1 microsecond' AS i, TIME '10:00:00.000001' AS t, "
        "[INTERVAL '-2 days 1 microsecond'] AS l, 1e300::DOUBLE AS f, TIMETZ '10:00:00+02' AS z",
        declared={"i": STRING, "t": DURATION, "l": Type(Kind.COLLECTION), "f": FLOAT, "z": STRING},
    )
    assert status.outputs == {
        "i": "-1 month 00:00:00.000001",
        "t": timedelta(hours=10, microseconds=1),
        "l": [timedelta(days=-2, microseconds=1)],
        "f": 1e300,
        "z": "10:00:00+02",
    }


async def test_checks_keep_the_order_of_the_rows(driver: Driver) -> None:
    status = await driver.run(
        "SELECT (hash(i) % 1000000007)::HUGEINT AS h FROM range(400000) t(i) ORDER BY h DESC",
        declared=TABLE,
        config={"threads": 2},
    )
    with duckdb.connect() as connection:
        wrong = connection.execute(
            "SELECT count(*) FROM (SELECT h, lag(h) OVER () AS before FROM "
            f"read_parquet('{table_of(status).uri}/*.parquet')) WHERE before < h"
        ).fetchone()
    assert wrong == (0,)


async def test_columns_of_one_name_are_numbered(driver: Driver) -> None:
    status = await driver.run('SELECT 1::HUGEINT AS a, 2 AS a, 3 AS "we\'ird"""', declared=TABLE)
    assert [column.name for column in table_of(status).columns] == ["a", "a_1", "we'ird\""]


async def test_integers_have_64_bits_in_parameters(driver: Driver) -> None:
    declared = {"d": INTEGER, "l": INTEGER, "m": INTEGER, "u": INTEGER}
    for interface in (
        {"x": INTEGER, "l": many(INTEGER), "m": mapped(INTEGER), "u": INTEGER},
        {"x": INTEGER, "l": many(INTEGER), "m": mapped(INTEGER)},
    ):
        status = await driver.run(
            "SELECT $x * 2 AS d, $l[1] * 2 AS l, $m['a'] * 2 AS m, $u * 2 AS u",
            inputs={"x": 2000000000, "l": [2000000000], "m": {"a": 2000000000}, "u": 2000000000},
            interface=interface,
            declared=declared,
        )
        assert status.outputs == dict.fromkeys(declared, 4000000000), status


async def test_whole_numbers_of_a_struct_are_whole(driver: Driver) -> None:
    status = await driver.run(
        "SELECT $tree->>'limit' AS l, $tree->>'half' AS h, $trees[1]->>'n' AS n",
        inputs={"tree": {"limit": 10, "half": 0.5}, "trees": [{"n": 2**60}]},
        interface={"tree": STRUCT, "trees": many(STRUCT)},
        declared={"l": STRING, "h": STRING, "n": STRING},
    )
    assert status.outputs == {"l": "10", "h": "0.5", "n": str(2**60)}, status

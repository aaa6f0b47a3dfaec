"""What Parquet and Flyte make of DuckDB's types: exact, or refused in words.

DuckDB writes what Parquet lacks as something else, and says nothing: HUGEINT, which every sum of
integers is, as DOUBLE; the microseconds of an INTERVAL it drops; hours beyond 49 days wrap around.
Here every column gets a type that keeps its values, and a column whose type a task declares gets
that type. Where only the value tells whether it fits, SQL around the column checks each one.

| DuckDB | in Parquet | Flyte's type |
|---|---|---|
| HUGEINT, UHUGEINT | BIGINT; a value beyond 64 bits fails the job | integer |
| BIGNUM | text | string |
| INTERVAL, TIME WITH TIME ZONE, BIT, ENUM | text that DuckDB casts back | string |
| UNION | a struct of its members and a tag | struct |
| ARRAY | LIST | collection |
| DATE, TIMESTAMP | as they are; infinity fails the job | datetime |
| all others | as they are | |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flyteagents_duckdb_job.access import Refused
from flyteagents_duckdb_job.views import identifier, quoted

_NEVER = "false"
Packed = dict[str, Any]
"""A type of Flyte's in JSON: `kind`, and `of` for what is inside."""

_SMALL = ("tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger")
_WIDE = ("ubigint", "hugeint", "uhugeint")
_INTEGERS = (*_SMALL, *_WIDE)
_DAYS = (
    "date",
    "timestamp",
    "timestamp with time zone",
    "timestamp_s",
    "timestamp_ms",
    "timestamp_ns",
)
_TIMES = ("time", "time_ns")
_AS_TEXT = ("interval", "time with time zone", "bit", "bignum", "varint")
# What may stand for a declared string: texts, and what Flyte has no exact type for.
_TEXTS = ("varchar", "uuid", "enum", *_AS_TEXT, *_TIMES, *_WIDE, "decimal")

_FLYTE = {
    "boolean": "boolean",
    **dict.fromkeys(_INTEGERS, "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "float"),
    **dict.fromkeys(_DAYS, "datetime"),
    **dict.fromkeys(_TIMES, "duration"),
    "interval": "duration",
    "blob": "binary",
    **dict.fromkeys(("struct", "union", "variant"), "struct"),
}


@dataclass(frozen=True)
class Fit:
    """What a column becomes.

    sql: the DuckDB type that it is cast to. type: Flyte's type of that.
    holds: a condition on every value, with `{0}` for the column, without which the job fails; ""
    where no value can be lost. why: what is wrong with a value that does not meet it.
    exact: the condition is that the cast loses nothing, so it works around a list or map as well.
    """

    sql: str
    type: Packed
    holds: str = ""
    why: str = ""
    exact: bool = False


def fit(kind: Any, declared: Packed | None) -> Fit | None:
    """What a result's column becomes in Parquet; None where it is not what is declared."""
    return _Fitting(scalar=False).fit(kind, declared)


def fit_scalar(kind: Any, declared: Packed) -> Fit | None:
    """What a column becomes before Python reads it for an output of its own."""
    return _Fitting(scalar=True).fit(kind, declared)


def select(column: str, name: str, kind: Any, wanted: Fit) -> str:
    """A column as SQL, with its check."""
    value = "NULL" if wanted.holds == _NEVER else column
    cast = column if wanted.sql == str(kind) else f"CAST({value} AS {wanted.sql})"
    if not wanted.holds:
        return cast

    said = f"the column {name} has a value that {wanted.why}: "
    return (
        f"CASE WHEN {column} IS NULL OR ({wanted.holds.replace('{0}', column)}) THEN {cast} "
        f"ELSE error({quoted(said)} || CAST({column} AS VARCHAR)) END"
    )


def misfit(name: str, kind: Any, declared: Packed) -> Refused:
    """The refusal of a column that is not what is declared."""
    return Refused(
        f"the column {name} is {kind}, and the task declares it as {_words(declared)}; "
        "CAST it in the SQL, or declare another type"
    )


@dataclass(frozen=True)
class _Fitting:
    """One rule for Parquet and for scalar outputs, but for what each of them lacks."""

    scalar: bool

    def fit(self, kind: Any, declared: Packed | None) -> Fit | None:
        if declared is None or declared["kind"] == "none":
            return self._natural(kind)

        found = self._declared(kind, declared)
        if found is None and kind.id in ("null", "integer"):
            # Before 2.0, the type of a column that is nothing but NULL is INTEGER.
            empty = _natural_type(declared)
            if empty:
                return Fit(empty, declared, holds=_NEVER, why=f"is not {_words(declared)}")
        return found

    def _declared(self, kind: Any, declared: Packed) -> Fit | None:
        wanted = declared["kind"]
        if wanted == "union":
            variants = (self._declared(kind, variant) for variant in declared["of"])
            return next((found for found in variants if found is not None), None)
        if wanted == "integer":
            return self._integer(kind)
        if wanted == "float":
            return self._float(kind)
        if wanted in ("string", "enum"):
            return Fit("VARCHAR", declared) if kind.id in _TEXTS else None
        if wanted == "duration":
            return self._duration(kind)
        if wanted == "collection":
            return self._list(kind, declared)
        if wanted == "map":
            return self._map(kind, declared)
        if wanted == "struct":
            return self._struct(kind, declared)

        natural = self._natural(kind)
        return natural if natural.type["kind"] == wanted else None

    def _integer(self, kind: Any) -> Fit | None:
        bigint = Fit("BIGINT", {"kind": "integer"})
        if kind.id in _SMALL:
            return bigint
        if kind.id in _WIDE:
            return _exact(bigint, kind, "does not fit into 64 bits")
        if kind.id in ("float", "double", "decimal"):
            return _exact(bigint, kind, "is no integer of 64 bits")
        return None

    def _float(self, kind: Any) -> Fit | None:
        double = Fit("DOUBLE", {"kind": "float"})
        # The nearest double is what a declared float means for 0.1 as well.
        if kind.id in ("float", "double", "decimal"):
            return double
        if kind.id in _INTEGERS:
            return _exact(double, kind, "is no float exactly")
        return None

    def _duration(self, kind: Any) -> Fit | None:
        duration = Fit(str(kind), {"kind": "duration"})
        if kind.id in _TIMES:
            return duration
        if kind.id != "interval":
            return None
        if self.scalar:
            return replace(
                duration,
                holds="date_part('year', {0}) = 0 AND date_part('month', {0}) = 0",
                why="has months, which are not of one length",
            )
        # Parquet counts months, days and milliseconds in 32 bits each, without a sign.
        parts = ("year", "month", "day", "hour", "minute", "microsecond")
        return replace(
            duration,
            holds=" AND ".join(
                [f"date_part('{part}', {{0}}) >= 0" for part in parts]
                + ["date_part('hour', {0}) < 1193", "date_part('microsecond', {0}) % 1000 = 0"]
            ),
            why="Parquet's intervals cannot hold, which have milliseconds and no sign",
        )

    def _struct(self, kind: Any, declared: Packed) -> Fit | None:
        if kind.id == "varchar":
            return Fit("JSON", declared)  # a text that is none fails the cast
        if kind.id in ("struct", "map", "union", "variant"):
            return replace(self._natural(kind), type=declared)
        return None

    def _list(self, kind: Any, declared: Packed) -> Fit | None:
        if kind.id not in ("list", "array"):
            return None
        element = self._inside(kind.children[0][1], declared)
        if element is None:
            return None
        return _around(f"{element.sql}[]", "collection", element, kind)

    def _map(self, kind: Any, declared: Packed) -> Fit | None:
        if kind.id != "map" or kind.children[0][1].id != "varchar":
            return None
        value = self._inside(kind.children[1][1], declared)
        if value is None:
            return None
        return _around(f"MAP(VARCHAR, {value.sql})", "map", value, kind)

    def _inside(self, kind: Any, declared: Packed) -> Fit | None:
        """What is inside a declared list or map."""
        of = declared.get("of") or [None]
        found = self.fit(kind, of[0])
        if found is None or found.exact or not found.holds:
            return found
        # Other checks look at one value. That a time is finite we let pass; others we cannot.
        return replace(found, holds="") if kind.id in _DAYS else None

    def _natural(self, kind: Any) -> Fit:
        """What a column becomes that is declared as nothing."""
        name = kind.id
        if name in ("hugeint", "uhugeint"):
            found = self._integer(kind)
            assert found is not None
            return found
        if name in _AS_TEXT and not (self.scalar and name == "interval"):
            return Fit("VARCHAR", {"kind": "string"})
        if name in _DAYS:
            return self._day(kind)
        if name in ("list", "array"):
            return self._natural_list(kind)
        if name == "map":
            return self._natural_map(kind)
        if name in ("struct", "union"):
            return self._natural_struct(kind)
        return Fit(str(kind), {"kind": _FLYTE.get(name, "string")})

    def _day(self, kind: Any) -> Fit:
        finite = Fit(
            str(kind),
            {"kind": "datetime"},
            holds="NOT isinf({0})",
            why="Parquet and Flyte do not have",
        )
        if not self.scalar:
            return finite
        if kind.id == "timestamp with time zone":
            # In the session's zone, which is UTC: Python would need a package for zones.
            return replace(finite, sql="TIMESTAMP")
        if kind.id == "timestamp_ns":
            micro = replace(finite, sql="TIMESTAMP")
            return _exact(micro, kind, "is finer than a microsecond")
        return finite

    def _natural_list(self, kind: Any) -> Fit:
        element = self._natural(kind.children[0][1])
        return _around(f"{element.sql}[]", "collection", element, kind)

    def _natural_map(self, kind: Any) -> Fit:
        key, value = (self._natural(part) for _, part in kind.children)
        outer = _around(f"MAP({key.sql}, {value.sql})", "map", value, kind)
        if key.exact:
            outer = _exact(outer, kind, key.why)
        if kind.children[0][1].id == "varchar":
            return outer
        return replace(outer, type={"kind": "struct"})

    def _natural_struct(self, kind: Any) -> Fit:
        parts = [(name, part) for name, part in kind.children if name]
        members = [(name, self._natural(part)) for name, part in parts]
        if [member.sql for _, member in members] == [str(part) for _, part in parts]:
            return Fit(str(kind), {"kind": "struct"})

        inner = ", ".join(f"{identifier(name)} {member.sql}" for name, member in members)
        whole = Fit(f"{kind.id.upper()}({inner})", {"kind": "struct"})
        if any(member.exact for _, member in members):
            return _exact(whole, kind, "does not fit into 64 bits")
        return whole


def _exact(wanted: Fit, kind: Any, why: str) -> Fit:
    """The same, if every value comes back from it as it was."""
    back = f"TRY_CAST(TRY_CAST({{0}} AS {wanted.sql}) AS {kind}) IS NOT DISTINCT FROM {{0}}"
    return replace(wanted, holds=back, why=why, exact=True)


def _around(sql: str, kind: str, inner: Fit, whole: Any) -> Fit:
    """A list or map of what fits, with a check where the inner one has one."""
    outer = Fit(sql, {"kind": kind, "of": [inner.type]})
    return _exact(outer, whole, inner.why) if inner.exact else outer


def _natural_type(declared: Packed) -> str:
    """The DuckDB type of a column of nulls."""
    names = {
        "string": "VARCHAR",
        "enum": "VARCHAR",
        "boolean": "BOOLEAN",
        "datetime": "TIMESTAMP",
        "duration": "INTERVAL",
        "binary": "BLOB",
        "struct": "JSON",
        "integer": "BIGINT",
        "float": "DOUBLE",
    }
    if declared["kind"] == "union":
        return next(filter(None, map(_natural_type, declared["of"])), "")
    if declared["kind"] in ("collection", "map") and declared.get("of"):
        inner = _natural_type(declared["of"][0])
        outer = "{}[]" if declared["kind"] == "collection" else "MAP(VARCHAR, {})"
        return outer.format(inner) if inner else ""
    return names.get(declared["kind"], "")


def _words(declared: Packed) -> str:
    of = ", ".join(map(_words, declared.get("of", [])))
    return f"{declared['kind']} of {of}" if of else str(declared["kind"])

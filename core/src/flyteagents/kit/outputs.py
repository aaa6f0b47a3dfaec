"""What a query's result is to the task: which of its declared outputs, and of which type."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from flyteagents import InvalidTask, Kind, Type

__all__ = ["TABLES", "first_fitting", "table_output"]

TABLES = frozenset({Kind.STRUCTURED_DATASET, Kind.SCHEMA})
"""The kinds of Flyte's tables."""


def table_output(
    declared: Mapping[str, Type], kinds: Collection[Kind] = TABLES
) -> tuple[str, Type] | None:
    """The name and the type of the declared output that is a table, also where it is optional.

    kinds: what counts as a table; add `Kind.BLOB` where the result may be a file.

    Raises InvalidTask for two of them, since a query has one result.
    """
    tables = [
        (name, table)
        for name, of in declared.items()
        if (table := first_fitting(of, lambda variant: variant.kind in kinds)) is not None
    ]
    if len(tables) > 1:
        names = ", ".join(name for name, _ in tables)
        raise InvalidTask(f"a query has one table for a result, and the task declares {names}")
    return tables[0] if tables else None


def first_fitting(declared: Type, fits: Callable[[Type], bool]) -> Type | None:
    """The first variant of a union for which `fits` is true, unions in unions looked into; of
    another type itself. None where nothing fits."""
    return next(filter(fits, _variants(declared)), None)


def _variants(declared: Type) -> Iterator[Type]:
    if declared.kind is not Kind.UNION:
        yield declared
        return
    for variant in declared.of:
        yield from _variants(variant)

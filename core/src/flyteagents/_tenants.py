"""Patterns of Flyte's projects and domains, as settings have them: `sales-*/production`."""

from __future__ import annotations

import fnmatch
import functools
from typing import Annotated

from pydantic import AfterValidator
from pydantic_settings import NoDecode

from flyteagents._settings import CommaList

NAME_LIMIT = 256
"""Characters of a project's or domain's name that is remembered: it comes over the wire."""


def fits_tenant(pattern: str, project: str, domain: str) -> bool:
    """Whether a pattern means this project and domain."""
    return fits_any((pattern,), project, domain)


def fits_any(patterns: tuple[str, ...], project: str, domain: str) -> bool:
    """Whether one of the patterns means this project and domain."""
    fits = _fits if max(len(project), len(domain)) <= NAME_LIMIT else _fits.__wrapped__
    return fits(patterns, project, domain)


# Tenants are few and calls are many.
@functools.lru_cache(1024)
def _fits(patterns: tuple[str, ...], project: str, domain: str) -> bool:
    # Each half for itself: a name that has a slash in it must not pass for another tenant's.
    return any(
        fnmatch.fnmatchcase(project, of_projects) and fnmatch.fnmatchcase(domain, of_domains)
        for of_projects, _, of_domains in (pattern.partition("/") for pattern in patterns)
    )


def _checked(pattern: str) -> str:
    if pattern.count("/") != 1:
        raise ValueError(f"{pattern!r} is not a project/domain pattern")
    return pattern


def _all_checked(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_checked, patterns))


TenantPattern = Annotated[str, AfterValidator(_checked)]
"""One pattern; it has exactly one slash."""

TenantPatterns = Annotated[CommaList, NoDecode, AfterValidator(_all_checked)]
"""The type of a setting whose variable holds several, with commas between them."""

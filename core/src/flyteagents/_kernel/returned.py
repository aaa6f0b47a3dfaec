"""What agents return, checked where it comes in.

A wrong value found later is blamed on the kernel, or on nobody: a Status whose phase is a text
would fail every poll for hours. Found here, it is a bug of the agent's, told in words.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from flyteagents._job import Job
from flyteagents._status import LogPage, Phase, Status

_FIELDS: Mapping[str, tuple[type, ...]] = {
    "phase": (Phase, type(None)),
    "message": (str, type(None)),
    "code": (str, type(None)),
    "outputs": (Mapping, type(None)),
    "info": (Mapping,),
    "statistics": (Mapping,),
    "started": (datetime, type(None)),
    "ended": (datetime, type(None)),
    "cancelling": (bool,),
}
_MOMENTS = ("started", "ended")
_RETURNED: Mapping[str, tuple[type, ...]] = {
    "get": (Status,),
    "run": (Mapping, type(None)),
    "logs": (LogPage,),
    "adopts": (bool,),
}


def job_values(job: Job) -> dict[str, Any]:
    """The job as it rides in `resource_meta`, without what its class computes."""
    return job.model_dump(mode="json", round_trip=True)


def check_returned(operation: str, value: object, job: type[Job] | None) -> None:
    """Raises TypeError for what the agent's method of that name must not return."""
    if operation == "get" and isinstance(value, Status):
        _check_status(value)
        return
    wanted = _RETURNED.get(operation, (object,))
    if operation == "create":
        wanted = (job or Job,)
    elif operation in ("find", "handle"):
        wanted = (job or Job, type(None))
    if not isinstance(value, wanted):
        raise TypeError(f"{operation} returned {type(value).__name__}, not {_names(wanted)}")
    if isinstance(value, Job) and job is not None:
        _check_job(operation, value, job)


def _check_job(operation: str, value: Job, model: type[Job]) -> None:
    """A job that cannot be read back could be neither polled nor cancelled."""
    try:
        problem = "" if model.model_validate(job_values(value)) == value else "it is another one"
    except ValidationError as error:  # its own text has the values
        told = error.errors(include_url=False, include_context=False, include_input=False)
        problem = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told)
    except ValueError as error:  # bytes that are no text
        problem = str(error)
    if problem:
        raise TypeError(
            f"{operation} returned a {type(value).__name__} that {model.__name__} cannot be read "
            f"back from what rides in resource_meta: {problem}"
        )


def _check_status(status: Status) -> None:
    values = vars(status)
    name = _misfit(tuple(values), tuple(map(type, values.values())))
    if name is not None:
        raise TypeError(
            f"get returned a Status whose {name} is {values[name]!r}, not {_names(_FIELDS[name])}"
        )
    for name in _MOMENTS:
        moment = values[name]
        # Python takes it for local time in `timestamp()`, and refuses to subtract it from one that
        # has a zone.
        if moment is not None and moment.tzinfo is None:
            raise TypeError(f"get returned a Status whose {name} has no time zone")


@functools.lru_cache(256)  # nearly all polls bring the same few kinds of values
def _misfit(names: tuple[str, ...], kinds: tuple[type, ...]) -> str | None:
    """The first field whose value is of a kind that it must not be."""
    kind_of = dict(zip(names, kinds, strict=True))
    for name, wanted in _FIELDS.items():
        if not issubclass(kind_of[name], wanted):
            return name
    return None


def _names(wanted: tuple[type, ...]) -> str:
    return " or ".join("None" if each is type(None) else each.__name__ for each in wanted)

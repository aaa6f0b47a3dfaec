"""What agents return, checked where it comes in.

A wrong value found later is blamed on the kernel, or on nobody: a Status whose phase is a text
would fail every poll for hours. Found here, it is a bug of the agent's, told in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flyteagents._job import Job
from flyteagents._status import LogPage, Phase, Status

_FIELDS: Mapping[str, tuple[type, ...]] = {
    "phase": (Phase, type(None)),
    "message": (str, type(None)),
    "code": (str, type(None)),
    "outputs": (dict, Mapping, type(None)),
    "info": (dict, Mapping),
    "statistics": (dict, Mapping),
    "started": (datetime, type(None)),
    "ended": (datetime, type(None)),
    "cancelling": (bool,),
}
"""`dict` is for speed: to look for a Mapping takes longer than all the rest."""
_MOMENTS = ("started", "ended")
_RETURNED: Mapping[str, tuple[type, ...]] = {
    "get": (Status,),
    "run": (Mapping, type(None)),
    "logs": (LogPage,),
    "adopts": (bool,),
}


def check_returned(operation: str, value: object, job: type[Job] | None) -> None:
    """Raises TypeError for what the agent's method of that name must not return."""
    wanted = _RETURNED.get(operation, (object,))
    if operation == "create":
        wanted = (job or Job,)
    elif operation == "find":
        wanted = (job or Job, type(None))
    if not isinstance(value, wanted):
        raise TypeError(f"{operation} returned {type(value).__name__}, not {_names(wanted)}")
    if isinstance(value, Status):
        _check_status(value)


def _check_status(status: Status) -> None:
    values = vars(status)
    for name, wanted in _FIELDS.items():
        value = values[name]
        if not isinstance(value, wanted):
            raise TypeError(
                f"get returned a Status whose {name} is {value!r}, not {_names(wanted)}"
            )
    for name in _MOMENTS:
        moment = values[name]
        # Python takes it for local time in `timestamp()`, and refuses to subtract it from one that
        # has a zone.
        if moment is not None and moment.tzinfo is None:
            raise TypeError(f"get returned a Status whose {name} has no time zone")


def _names(wanted: tuple[type, ...]) -> str:
    shown = [each for each in wanted if each is not dict]
    names = ["None" if each is type(None) else each.__name__ for each in shown]
    return " or ".join(names)

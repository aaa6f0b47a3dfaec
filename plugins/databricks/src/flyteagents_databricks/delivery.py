"""Brings our entrypoint into a workspace, without GitHub.

What lies in the entrypoint's file runs with the credentials of everybody's jobs. So it goes into
a folder that only our own principal writes to, under a name that is a hash of what it holds; it
is read back after it was written, and again by each new process of the service. A later version
has another name, and a running job keeps its own.

https://docs.databricks.com/api/workspace/workspace
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from flyteagents import Call, Forbidden, JobNotFound, Unavailable
from flyteagents.kit.answers import AnswerPart
from flyteagents.kit.shared import Shared
from flyteagents_databricks.request import Entrypoint
from flyteagents_databricks.settings import DatabricksSettings

log = logging.getLogger("flyteagents.databricks")

NAME = "flyteagents_entrypoint"
FOLDER = ".flyteagents"
EVERYBODY = frozenset({"users", "account users"})
"""Groups that all users of a workspace are in."""
_WRITE = frozenset({"CAN_EDIT", "CAN_MANAGE"})
_API = "/api/2.0"
LOOKED_AT = 10.0
"""Seconds for which a look at the file counts: somebody may clear the folder at any time."""
KEPT = 512
"""Principals whose entrypoints are known: those used last."""


class _Me(AnswerPart):
    userName: str  # noqa: N815 # as SCIM has it


class _Object(AnswerPart):
    object_id: int


def entrypoint_text() -> bytes:
    """The file itself."""
    return resources.files(__package__).joinpath("entrypoint.py").read_bytes()


@dataclass
class _Place:
    """Where one principal's entrypoint is, and when it was last seen there (`time.monotonic()`)."""

    looks: Shared[Entrypoint] = field(default_factory=Shared)
    entrypoint: Entrypoint | None = None
    seen: float = -math.inf


class Delivery:
    """Delivers once for each workspace and principal; make it in the agent's `open`."""

    def __init__(self, settings: DatabricksSettings) -> None:
        self._settings = settings
        self._text = entrypoint_text()
        self._hash = hashlib.sha256(self._text).hexdigest()
        self._places: OrderedDict[str, _Place] = OrderedDict()

    @property
    def name(self) -> str:
        return f"{NAME}_{self._hash[:12]}.py"

    async def entrypoint(self, identity: str, call: Call, *, retried: bool) -> Entrypoint:
        """Where the entrypoint is, for jobs of the principal behind `call`, whom `identity` tells
        apart. retried: an earlier attempt has failed, perhaps since the file was gone, as another
        replica has seen; so it is looked at whatever is known here. Raises Forbidden where others
        may write there too."""
        settings = self._settings
        if settings.entrypoint_path is not None:
            return Entrypoint(settings.entrypoint_path, self._git())
        # Hashed: the identity has a token or a secret in it, and this dictionary lives long.
        name = hashlib.sha256(identity.encode()).hexdigest()
        place = self._places.setdefault(name, _Place())
        self._places.move_to_end(name)
        if len(self._places) > KEPT:  # a task may bring a new token with each attempt
            self._places.popitem(last=False)
        known = place.entrypoint
        if known is None or retried or time.monotonic() - place.seen > LOOKED_AT:
            return await place.looks.get(functools.partial(self._deliver, place), call)
        return known

    def close(self) -> None:
        for place in self._places.values():
            place.looks.cancel()

    def _git(self) -> Mapping[str, str]:
        settings = self._settings
        if settings.entrypoint_git_url is None:
            return {}
        return {
            "git_url": settings.entrypoint_git_url,
            "git_provider": settings.entrypoint_git_provider,
            "git_commit": settings.entrypoint_git_commit or "",
        }

    async def _deliver(self, place: _Place, call: Call) -> Entrypoint:
        began = time.monotonic()
        try:
            path = await self._put(call)
        except JobNotFound as error:  # the folder, which somebody may have cleared meanwhile
            text = f"the file that runs begin with cannot be put into its place: {error.message}"
            raise Unavailable(text, code=error.code) from None
        log.info("the entrypoint of jobs is %s", path)
        found = Entrypoint(path)
        place.entrypoint, place.seen = found, began
        return found

    async def _put(self, call: Call) -> str:
        folder = self._settings.entrypoint_folder
        if folder is None:
            me = await call.http.get(f"{_API}/preview/scim/v2/Me", into=_Me)
            folder = f"/Workspace/Users/{me.userName}/{FOLDER}"
        path = f"{folder}/{self.name}"
        there = await self._read(path, call)
        if there != self._text:
            if there is not None:
                log.error("%s is not what was delivered: somebody else writes there", path)
            await self._write(folder, path, call)
            if await self._read(path, call) != self._text:
                raise Unavailable(f"{path} is not what was written there; trying again")
        # Also for a file that was there before: rights can change later.
        await self._check_writers(folder, call)
        return path

    async def _read(self, path: str, call: Call) -> bytes | None:
        # direct_download: the bytes themselves; else they come in JSON, as base64.
        params = {"path": path, "format": "AUTO", "direct_download": "true"}
        try:
            reply = await call.http.get(f"{_API}/workspace/export", params=params)
        except JobNotFound:
            return None
        return reply.body

    async def _write(self, folder: str, path: str, call: Call) -> None:
        await call.http.post(f"{_API}/workspace/mkdirs", json={"path": folder})
        body = {
            "path": path,
            # As a file: SOURCE would make a notebook of it.
            "format": "AUTO",
            "content": base64.b64encode(self._text).decode(),
            "overwrite": True,
        }
        await call.http.post(f"{_API}/workspace/import", json=body)

    async def _check_writers(self, folder: str, call: Call) -> None:
        """Raises Forbidden where all users may write. A folder that was named is as its operator
        made it; a home's own folder can be opened by mistake as well."""
        about = await call.http.get(
            f"{_API}/workspace/get-status", into=_Object, params={"path": folder}
        )
        reply = await call.http.get(f"{_API}/permissions/directories/{about.object_id}")
        writers = set(_writers(reply.json())) & EVERYBODY
        if writers:
            raise Forbidden(
                f"the group {min(writers)!r} may write to {folder}, and what lies there runs with "
                "other people's credentials; take that right away, or name another folder with "
                "FLYTEAGENTS_DATABRICKS_ENTRYPOINT_FOLDER"
            )


def _writers(answer: Any) -> list[str]:
    """The groups that may change what is in a folder."""
    lists = answer.get("access_control_list") if isinstance(answer, dict) else None
    return [
        str(entry.get("group_name"))
        for entry in lists or ()
        for permission in entry.get("all_permissions") or ()
        if permission.get("permission_level") in _WRITE
    ]

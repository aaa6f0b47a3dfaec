"""The files of the made-up workspace: import, export, and who may change a folder.

https://docs.databricks.com/api/workspace/workspace
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from flyteagents.testing import Request, Response

WHO = "robot@example.com"
SIZE_LIMIT = 10 << 20


@dataclass
class Workspace:
    """files: contents by path, without the `/Workspace` that paths may begin with.

    folders: path to the levels that groups have there. imports: paths in the order of writing.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, dict[str, str]] = field(default_factory=dict)
    imports: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folders["/Shared"] = {"users": "CAN_MANAGE"}
        self.folders[f"/Users/{WHO}"] = {}

    def read(self, path: str) -> bytes | None:
        return self.files.get(_plain(path))

    def put(self, path: str, content: bytes) -> None:
        self.files[_plain(path)] = content

    def answer(self, request: Request) -> Response:
        """The reply to a request below /api/2.0/workspace, permissions or scim."""
        name = request.path.rpartition("/")[2]
        body = request.json() or {}
        path = _plain(str(body.get("path") or request.query.get("path") or ""))
        if name == "Me":
            return Response(200, {"id": "1", "userName": WHO})
        if "/permissions/directories/" in request.path:
            return self._permissions(int(name))
        if name == "mkdirs":
            self.folders.setdefault(path, self._inherited(path))
            return Response(200, {})
        if name == "import":
            return self._import(path, body)
        if name == "get-status":
            return self._status(path)
        if name == "export":
            return self._export(path, request)
        return error(404, "ENDPOINT_NOT_FOUND", f"No API found for {request.path}")

    def _import(self, path: str, body: dict[str, Any]) -> Response:
        folder = path.rpartition("/")[0]
        if folder not in self.folders:
            return error(404, "RESOURCE_DOES_NOT_EXIST", f"The parent folder ({folder}) is missing")
        if path in self.files and not body.get("overwrite"):
            return error(400, "RESOURCE_ALREADY_EXISTS", f"Path ({path}) already exists.")
        content = base64.b64decode(body["content"])
        if len(content) > SIZE_LIMIT:
            return error(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", "the file is too large")
        if (body.get("format") == "SOURCE") is not ("language" in body):
            return error(400, "INVALID_PARAMETER_VALUE", "a notebook has a language, a file none")
        self.files[path] = content
        self.imports.append(path)
        return Response(200, {})

    def _status(self, path: str) -> Response:
        if path in self.folders:
            number = list(self.folders).index(path)
            return Response(200, {"object_type": "DIRECTORY", "object_id": number, "path": path})
        if path in self.files:
            return Response(200, {"object_type": "FILE", "object_id": 10**6, "path": path})
        return error(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")

    def _export(self, path: str, request: Request) -> Response:
        content = self.files.get(path)
        if content is None:
            return error(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
        if request.query.get("format") != "AUTO":
            return error(400, "INVALID_PARAMETER_VALUE", "a file has no notebook's format")
        if request.query.get("direct_download") == "true":
            return Response(200, content)
        return Response(200, {"content": base64.b64encode(content).decode()})

    def _permissions(self, number: int) -> Response:
        levels = list(self.folders.values())[number]
        lists = [{"user_name": WHO, "all_permissions": [_level("CAN_MANAGE")]}]
        lists += [
            {"group_name": group, "all_permissions": [_level(level)]}
            for group, level in {"admins": "CAN_MANAGE", **levels}.items()
        ]
        return Response(200, {"object_id": f"/directories/{number}", "access_control_list": lists})

    def _inherited(self, path: str) -> dict[str, str]:
        while path:
            path = path.rpartition("/")[0]
            if path in self.folders:
                return dict(self.folders[path])
        return {}


def error(status: int, code: str, message: str) -> Response:
    """An error as Databricks writes it."""
    return Response(status, {"error_code": code, "message": message})


def _level(name: str) -> dict[str, Any]:
    return {"permission_level": name, "inherited": True}


def _plain(path: str) -> str:
    return path.removeprefix("/Workspace")

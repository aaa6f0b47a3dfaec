"""The Kubernetes namespace of a task: its secrets, and tokens of its service account.

As flytekit's connector reads them, but that what may not be read is an error and not as good as
absent: falling back to a shared token would run a tenant's task with everybody's rights.

https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flyteagents import Call, InvalidTask, Unauthenticated, Unavailable
from flyteagents.kit.texts import excerpt

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts the service's own token and the cluster's certificates."""
LIMIT = 5.0
"""Seconds that a request may take."""
KEPT_FOR = 60.0
"""Seconds for which a secret counts as read."""
KEPT = 512
ENABLED = "flyte.org/databricks-enabled"
CLIENT_ID = "flyte.org/databricks-client-id"
AUDIENCE = "flyte.org/databricks-audience"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Account:
    """A service account that Databricks trusts as the principal `client_id`."""

    name: str
    client_id: str
    audience: str


class Namespaces:
    """Reads from the cluster that the service runs in. `folder` has its own account's files."""

    def __init__(self) -> None:
        self._folder = ACCOUNT
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    async def secret(self, namespace: str, name: str, call: Call) -> Mapping[str, str] | None:
        """The values of a secret; None where there is none. Raises Unauthenticated where it may
        not be read, Unavailable where it cannot be read now."""
        path = f"/api/v1/namespaces/{_checked(namespace)}/secrets/{_checked(name)}"
        found = await self._read(path, f"the secret {name} in the namespace {namespace}", call)
        data = (found or {}).get("data") or {}
        if found is None:
            return None
        decoded = {key: base64.b64decode(value) for key, value in data.items()}
        # Beside the token there may be what is no text.
        return {key: value.decode("utf-8", "replace").strip() for key, value in decoded.items()}

    async def account(self, namespace: str, audience: str, call: Call) -> Account | None:
        """The one service account that is marked for Databricks; None where none is."""
        query = urlencode({"labelSelector": f"{ENABLED}=true"})
        path = f"/api/v1/namespaces/{_checked(namespace)}/serviceaccounts?{query}"
        what = f"the service accounts of the namespace {namespace}"
        listed = await self._read(path, what, call) or {}
        found = []
        for item in listed.get("items") or ():
            about = item.get("metadata") or {}
            notes = about.get("annotations") or {}
            client = (notes.get(CLIENT_ID) or "").strip()
            if client:
                wanted = (notes.get(AUDIENCE) or "").strip() or audience
                found.append(Account(str(about.get("name")), client, wanted))
        if len(found) > 1:
            names = ", ".join(sorted(one.name for one in found))
            raise InvalidTask(f"{what} marked for Databricks are {names}; mark exactly one")
        return found[0] if found else None

    async def token(self, namespace: str, account: Account, call: Call) -> str:
        """A token of a service account (TokenRequest), for Databricks to trust."""
        name = _checked(account.name)
        path = f"/api/v1/namespaces/{_checked(namespace)}/serviceaccounts/{name}/token"
        spec = {"audiences": [account.audience], "expirationSeconds": 3600}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        what = f"a token of the service account {name} in the namespace {namespace}"
        made = await call.blocking(self._ask, path, what, body)
        token = ((made or {}).get("status") or {}).get("token")
        if not token:
            raise Unauthenticated(f"Kubernetes gave no token: there is not {what}")
        return str(token)

    async def _read(self, path: str, what: str, call: Call) -> dict[str, Any] | None:
        kept = self._kept.get(path)
        # fresh: the vendor refused what was got with it, so the secret may have been rotated.
        if kept is not None and time.monotonic() < kept[0] and not call.fresh:
            found: dict[str, Any] | None = kept[1]
            return found
        found = await call.blocking(self._ask, path, what, None)
        self._kept[path] = (time.monotonic() + KEPT_FOR, found)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _ask(self, path: str, what: str, body: object) -> dict[str, Any] | None:
        """One request, in a thread: the cluster's certificates are its own. None for a 404."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host:
            raise Unauthenticated(
                f"{what} cannot be read, since the service does not run in Kubernetes; set "
                "FLYTEAGENTS_DATABRICKS_NAMESPACE_SECRETS=false"
            )
        try:
            own = (self._folder / "token").read_text().strip()
            trusted = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
            request = urllib.request.Request(  # https
                f"https://{f'[{host}]' if ':' in host else host}:{port}{path}",
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {own}", "Content-Type": "application/json"},
            )
            # By no proxy: urllib does not read the networks that clusters write into NO_PROXY.
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
            )
            with opener.open(request, timeout=LIMIT) as reply:
                answer: dict[str, Any] = json.loads(reply.read())
                return answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise Unauthenticated(
                    f"Kubernetes does not let the service read {what}; give its role that right, "
                    "or set FLYTEAGENTS_DATABRICKS_NAMESPACE_SECRETS=false to use the service's "
                    "own credentials for all"
                ) from None
            raise Unavailable(f"Kubernetes answered {error.code} for {what}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"{what} cannot be read now: {type(reason).__name__}") from None


def _checked(name: str) -> str:
    """A name that ends up in a path. It comes over the wire. Raises InvalidTask."""
    if not _NAME.fullmatch(name):
        raise InvalidTask(f"{excerpt(name, 60)!r} is not the name of a Kubernetes object")
    return name

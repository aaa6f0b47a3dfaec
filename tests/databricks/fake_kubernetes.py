"""A Kubernetes API to read secrets from: HTTPS with a certificate of its own, as a cluster has.

https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.vendors.certificates import self_signed

OWN = "token-of-the-service-account"


class FakeKubernetes:
    """secrets: by namespace and name. accounts: by namespace, as the API lists them.

    forbidden: what may not be read: "secrets", "serviceaccounts". down: answer 503.
    asked: paths of the requests. folder: what a pod has of its own account.
    """

    def __init__(self, folder: Path) -> None:
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        self.accounts: dict[str, list[dict[str, Any]]] = {}
        self.forbidden: set[str] = set()
        self.down = False
        self.asked: list[str] = []
        self.folder = folder
        self.port = 0

    def mark(self, namespace: str, name: str, client_id: str, **annotations: str) -> None:
        """A service account that Databricks trusts as the principal `client_id`."""
        notes = {"flyte.org/databricks-client-id": client_id, **annotations}
        account = {"metadata": {"name": name, "annotations": notes}}
        self.accounts.setdefault(namespace, []).append(account)

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeKubernetes]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(*fake.answer(self.path, self.headers.get("authorization", "")))

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(size))
                status, answer = fake.answer(self.path, self.headers.get("authorization", ""))
                if status == 404 and self.path.endswith("/token"):
                    audience = body["spec"]["audiences"][0]
                    name = self.path.split("/")[-2]
                    status, answer = 201, {"status": {"token": f"jwt-of-{name}-for-{audience}"}}
                self._reply(status, answer)

            def _reply(self, status: int, answer: object) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        certificate, key = self._certificate()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, path: str, authorization: str) -> tuple[int, object]:
        self.asked.append(path)
        _, _, _, _, namespace, kind, *rest = path.partition("?")[0].split("/")
        if self.down:
            return 503, {}
        if authorization != f"Bearer {OWN}" or kind in self.forbidden:
            return 403, {"message": f"{kind} is forbidden"}
        if kind == "secrets":
            values = self.secrets.get((namespace, rest[0]))
            if values is None:
                return 404, {}
            encoded = {
                k: base64.b64encode(v.encode(errors="surrogateescape")).decode()
                for k, v in values.items()
            }
            return 200, {"data": encoded}
        if kind == "serviceaccounts" and not rest:
            return 200, {"items": self.accounts.get(namespace, [])}
        return 404, {}

    def _certificate(self) -> tuple[Path, Path]:
        certificate, private = self.folder / "ca.crt", self.folder / "key.pem"
        for file, text in zip((certificate, private), self_signed(), strict=True):
            file.write_text(text)
        (self.folder / "token").write_text(OWN)
        return certificate, private

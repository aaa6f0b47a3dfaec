"""What an author sees of HTTP: where the vendor is, a request's parts, its reply, and the methods.

It is its own module, and holds no connection, so that `Call` can name `Http` and what sends the
requests (`flyteagents._vendor.http`) can name `Endpoint` and `Reply`, with no circle between them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from pydantic import BaseModel, ValidationError

from flyteagents._errors import Unavailable

if TYPE_CHECKING:
    from typing_extensions import Unpack

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Endpoint:
    """Where the vendor's API is, and what opens it.

    url: the base that relative paths are joined to.
    bearer: a token for the Authorization header; headers: any others. Neither is ever logged.
    shown: what users know these credentials by, such as a secret's name: where the vendor refuses
        them (401, 403) the error says it.
    """

    url: str
    bearer: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    shown: str = ""


@dataclass(frozen=True)
class Reply:
    """A vendor's HTTP reply. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; raises Unavailable when it is none, since a gateway wrote it then."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unavailable(f"the vendor's reply ({self.status}) is not JSON") from None

    def into(self, model: type[M]) -> M:
        """The body as a model. Fields that the model does not have are ignored, also where the
        model forbids them, since vendors add fields. Half of a character is read as `?`. Raises
        Unavailable: values may be secret, so it names fields only."""
        try:
            try:
                return model.model_validate_json(self.body, extra="ignore")
            except ValidationError:
                # To pydantic a text that was cut in the middle of a character is no JSON.
                whole = json.dumps(self.json(), ensure_ascii=False).encode(errors="replace")
                return model.model_validate_json(whole, extra="ignore")
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            fields = [".".join(map(str, problem["loc"])) or "all of it" for problem in problems[:5]]
            what = f"{model.__name__}: {', '.join(fields)[:400]}"
            raise Unavailable(f"the vendor's reply ({self.status}) does not fit {what}") from None


class Sent(TypedDict, total=False):
    """What a request carries: at most one of json, content and form. A param of None is left
    out; headers win over the endpoint's. endpoint: one of the request's own."""

    endpoint: Endpoint
    json: object
    content: bytes | str
    form: Mapping[str, str]
    params: Mapping[str, str | int | float | bool | Sequence[str] | None]
    headers: Mapping[str, str]


Send = Callable[[str, str, Collection[int], Sent], Awaitable[Reply]]
"""Sends a method, a path and what goes with it; the statuses are those not to raise for."""


class Http:
    """Requests to the vendor, with the methods get, post, put, patch and delete.

    ```python
    state = await call.http.get(f"/jobs/{job.id}", into=AcmeState)        # a pydantic model
    reply = await call.http.put("/jobs/x", json=body, accept=[409])       # a Reply, also for 409
    ```
    Paths are relative to the endpoint; absolute URLs must be of an allowed host. With `into`, the
    reply's JSON is checked by that model; without, a `Reply` is returned. Other statuses than 2xx
    raise, but for those in `accept`; redirects are not followed. Requests are repeated while there
    is time, as far as that is safe, and after a 401 once with a fresh endpoint.

    `endpoint=Endpoint(...)` is for a request to another service, a token endpoint say: the agent's
    `endpoint` is not asked, so it may use this itself, and a 401 is not repeated.

    Raises InvalidTask (400, 422), Unauthenticated (401 after fresh credentials), Forbidden (403,
    or a host that is not allowed), JobNotFound (404, 410), JobConflict (409), Throttled (429),
    Unavailable (5xx, no reply); or what the agent's `explain` makes of the reply. While a job is
    asked about, a 4xx that is not JSON is Unavailable where it would end the job: a gateway may
    have written it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.get = Method(send, "GET")
        self.post = Method(send, "POST")
        self.put = Method(send, "PUT")
        self.patch = Method(send, "PATCH")
        self.delete = Method(send, "DELETE")

    async def request(
        self, method: str, path: str, *, accept: Collection[int] = (), **sent: Unpack[Sent]
    ) -> Reply:
        """Any method; see the class."""
        return await self._send(method, path, accept, sent)


class Method:
    """One HTTP method of the vendor's API; see `Http`."""

    def __init__(self, send: Send, name: str) -> None:
        self._send = send
        self._name = name

    @overload
    async def __call__(self, path: str, *, into: type[M], **sent: Unpack[Sent]) -> M: ...

    @overload
    async def __call__(
        self, path: str, *, accept: Collection[int] = (), **sent: Unpack[Sent]
    ) -> Reply: ...

    async def __call__(
        self,
        path: str,
        *,
        into: type[M] | None = None,
        accept: Collection[int] = (),
        **sent: Unpack[Sent],
    ) -> M | Reply:
        reply = await self._send(self._name, path, accept, sent)
        return reply if into is None else reply.into(into)

"""A request that rides in `resource_meta`: what another replica needs to submit on.

A create that was answered before its vendor is submitted on by the replica that took it. That one
may go, and a GetTask has no template, so what Flyte asked for is carried along: only in such an
envelope, only where it is small, and never where it looks as if it held a secret. What a connection
sent is not in it; Flyte 2 sends that with each GetTask.
"""

from __future__ import annotations

import base64
import zlib

from flyteagents._kernel.codec import Codec
from flyteagents._kernel.envelope import CARRYING, Envelope
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.requests import Connection, CreateRequest

INFLATED = 64 * 1024
"""Bytes of a request. A few bytes from anywhere could inflate to gigabytes."""


def packed(request: CreateRequest, codec: Codec) -> str:
    """The request as a text; "" for one that is not carried."""
    if not request.output_prefix or len(request.raw) > INFLATED:
        return ""
    raw = codec.without_secrets(request.raw)
    if raw is None:
        return ""
    # As a raw stream: a header and a checksum of its own are eight bytes more.
    squeezing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    squeezed = squeezing.compress(bytes([request.generation]) + raw) + squeezing.flush()
    # JSON spells none of these letters in two.
    text = base64.b85encode(squeezed).decode()
    return text if len(text) < CARRYING else ""


def unpacked(
    envelope: Envelope, cluster: str, codec: Codec, connection: Connection
) -> CreateRequest | None:
    """The request that the envelope carries; None where there is none, or it is another task's."""
    if not envelope.request:
        return None
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflating.decompress(base64.b85decode(envelope.request), INFLATED + 1)
        request = codec.read_request(raw[1:], raw[0], connection)
    except (ValueError, IndexError, zlib.error):
        return None
    # The bytes came over the wire, and what was checked is the envelope.
    who = request.identity
    same_tenant = (who.project, who.domain) == (envelope.project, envelope.domain)
    key = key_of(cluster, request.task_type, request.output_prefix)
    return request if same_tenant and key.hex == envelope.key else None

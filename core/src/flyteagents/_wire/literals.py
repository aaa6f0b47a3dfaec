"""Flyte literals to Python values and back, without an SDK."""

from flyteagents._wire.literals_decode import decode_literal, decode_literals
from flyteagents._wire.literals_encode import encode_literal, encode_literals

__all__ = ["decode_literal", "decode_literals", "encode_literal", "encode_literals"]

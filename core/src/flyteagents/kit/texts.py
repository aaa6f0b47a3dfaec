"""Texts of the vendor's that are told in part.

The kernel masks the secrets in what an agent returns and raises: messages, info, links, lines of a
log. It does not know one that the agent has cut in the middle, so an agent cuts with this.
"""

from __future__ import annotations

from flyteagents._redact import excerpt

__all__ = ["excerpt"]

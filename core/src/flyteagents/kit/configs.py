"""A task's config: the base of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["ConfigPart"]


class ConfigPart(BaseModel):
    """Base of the models of a task's config. A null or an empty text says nothing, since the SDKs
    write both for what their users leave out: such a field has its default.

    ```python
    class AcmeConfig(ConfigPart):
        script: str
        queue: str = "default"
    ```
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _that_says_something(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value not in (None, "")}

"""Models of what a vendor answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["AnswerPart"]


class AnswerPart(BaseModel):
    """Base of the models of a vendor's answers. A null is a field that is not there, so a field
    with a default need not allow None; fields that no model has are ignored, since vendors add
    them.

    ```python
    class State(AnswerPart):
        model_config = ConfigDict(alias_generator=to_camel)   # where the vendor writes camelCase

        life_cycle: str = ""
    ```
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        # Mostly there is none, and each part of each poll's answer passes here.
        if not isinstance(values, Mapping) or None not in values.values():
            return values
        return {name: value for name, value in values.items() if value is not None}

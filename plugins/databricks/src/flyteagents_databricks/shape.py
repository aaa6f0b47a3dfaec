"""The parts of `databricks_conf` that the agent looks into: what an author wrote may be anything.

The rest goes on to Databricks as it is, which says itself what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from flyteagents import InvalidTask

_Object = Mapping[str, Any]


class _Part(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _said(cls, values: Any) -> Any:
        """What is empty says nothing, whatever it is."""
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value}


class _Cluster(_Part):
    spark_env_vars: _Object = {}
    custom_tags: _Object = {}


class _Spec(_Part):
    environment_vars: _Object = {}


class _Environment(_Part):
    spec: _Spec | None = None


class _Values(_Part):
    variables: _Object = {}


class _Variables(_Part):
    spec: _Values | None = None


class _Conf(_Part):
    new_cluster: _Cluster | None = None
    environments: tuple[_Environment, ...] = ()
    environment_variables: tuple[_Variables, ...] = ()


def check_shape(conf: Mapping[str, Any]) -> None:
    """Raises InvalidTask, with the path of what is no object or no list."""
    try:
        _Conf.model_validate(conf)
    except ValidationError as error:
        # Without the value: it may be a password.
        problem = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, problem["loc"]))
        kind = "a list" if problem["type"] == "tuple_type" else "an object"
        raise InvalidTask(f"databricks_conf.{path} has to be {kind}") from None

"""The kernel's settings: environment variables `FLYTEAGENTS_*`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from flyteagents._environment import PREFIX, FromEnvironment, service_links
from flyteagents._settings import CommaList
from flyteagents._tenants import TenantPatterns

SECRETS = f"{PREFIX}SECRET_"
SHORT = 12
"""Letters of a wrong value that is shown. A longer one may be a secret in the wrong variable."""
S = TypeVar("S", bound=BaseSettings)
Port = Annotated[int, Field(ge=0, le=65535)]


class KernelSettings(FromEnvironment):
    """Every setting of the kernel. Exporters have the standard `OTEL_*` variables instead."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = Field("[::]", description="Address to listen on.", examples=["127.0.0.1"])
    # 8000 and 9090 as flytekit's server has them, so that ours can stand in its place.
    port: Port = Field(8000, description="gRPC port; `serve --port` wins. 0 takes a free one.")
    metrics_host: str = Field("0.0.0.0", description="Address of the Prometheus page.")  # noqa: S104
    metrics_port: Port = Field(9090, description="Port of the Prometheus page; 0 for no page.")
    plugins: CommaList | None = Field(
        None,
        description="Entry-point names of the plugins to load; all that are installed if unset.",
        examples=["bigquery,duckdb"],
    )
    on_broken_plugin: Literal["stop", "skip"] = Field(
        "stop",
        description="What to do at start when a plugin cannot be loaded: `stop`, or `skip` to "
        "start without it.",
    )
    cluster: str = Field(
        "",
        description="A name that keeps two Flyte clusters apart which share a vendor account. "
        "Part of every idempotency key: do not change it while jobs run.",
        examples=["prod-eu"],
    )
    adopt: bool = Field(
        True, description="Whether a retry takes over the job of an earlier attempt, if it lives."
    )
    allow: TenantPatterns = Field(
        ("*/*",),
        description="project/domain patterns of the tasks that are served.",
        examples=["sales-*/production,*/development"],
    )
    allow_hosts: CommaList = Field(
        (),
        description="Patterns of further vendor hosts that tasks may name and that then get "
        "credentials.",
        examples=["*.vendor.example"],
    )
    max_creates: PositiveInt = Field(
        64, description="CreateTask calls that one agent works on at once; others wait."
    )
    max_polls: PositiveInt = Field(
        128, description="GetTask calls that one agent asks its vendor about at once."
    )
    max_threads: PositiveInt = Field(
        16, description="Threads that one agent has for work that blocks."
    )
    # 3 at most: the answer around the outputs has to stay below gRPC's 4 MiB.
    max_output_mb: Annotated[int, Field(ge=1, le=3)] = Field(
        2,
        description="MiB of outputs that a task may return. More than Flyte reads "
        "(storage.limits.maxDownloadMBs, 2 by default) would succeed and be lost.",
    )
    first_look: Annotated[float, Field(ge=0)] = Field(
        1.5,
        description="Seconds for which the first poll of a new job waits for its end, where the "
        "agent says that jobs may end soon; 0: not at all.",
    )
    outage_patience: PositiveFloat = Field(
        6 * 3600.0,
        description="Seconds that a vendor, or an agent, may fail all polls of a job before the "
        "job is given up.",
    )
    auth_patience: PositiveFloat = Field(
        1800.0, description="The same for credentials that the vendor refuses, in seconds."
    )
    drain_delay: Annotated[float, Field(ge=0)] = Field(
        4.0,
        description="Seconds in which calls are still taken after SIGTERM, while callers move "
        "to other replicas.",
    )
    drain_limit: PositiveFloat = Field(
        60.0, description="Seconds that running work may take after that, before it is dropped."
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain; read when it changes.")
    tls_key: Path | None = Field(None, description="PEM private key of `tls_cert`.")
    secrets_dir: Path | None = Field(
        None, description="Directory with a file for each secret; read when they change."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="How much is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json`, `text`, or `auto`: text on a terminal and JSON elsewhere."
    )

    @classmethod
    @lru_cache
    def names(cls) -> tuple[str, ...]:
        """The names of all variables of the kernel."""
        return tuple(variables(cls, PREFIX))


class BadSettings(Exception):
    """One or more variables have values that cannot be used; the text names each."""


def read_settings(**overrides: object) -> KernelSettings:
    """The kernel's settings from the environment. Raises BadSettings."""
    settings = read(KernelSettings, PREFIX, **overrides)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise BadSettings("FLYTEAGENTS_TLS_CERT and FLYTEAGENTS_TLS_KEY go together; set both")
    return settings


def read(model: type[S], prefix: str, **overrides: object) -> S:
    """Settings from the variables with `prefix`. Raises BadSettings."""
    try:
        # Given here: a model cannot know under which name its plugin is installed.
        return model(_env_prefix=prefix, **overrides)  # type: ignore[arg-type] # pydantic checks
    except ValidationError as error:
        # pydantic's own text shows whole values, and one may be a secret: no trace back to it.
        raise BadSettings(_problems(model, prefix, error)) from None
    except SettingsError as error:  # JSON that is none, in a field that takes JSON
        raise BadSettings(f"{error}; its variables begin {prefix}") from None


def prefix_of(plugin: str) -> str:
    """The prefix of a plugin's settings."""
    return PREFIX + "".join(c if c.isalnum() else "_" for c in plugin.upper()) + "_"


def variables(model: type[BaseModel], prefix: str) -> Mapping[str, Any]:
    """Variable name to pydantic field, of a settings model."""
    return {f"{prefix}{name.upper()}": field for name, field in model.model_fields.items()}


def _problems(model: type[BaseModel], prefix: str, error: ValidationError) -> str:
    """What is wrong with each variable, and an example."""
    sentences = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        field, example = model.model_fields.get(name), None
        if field is not None:
            example = field.examples[0] if field.examples else field.get_default()
        if isinstance(example, tuple):
            example = ",".join(example)
        variable = f"{prefix}{name.upper()}"
        known = example not in (None, PydanticUndefined)
        hint = f", for example {variable}={example}" if known else ""
        value = problem["input"]
        shown = f"={value}" if isinstance(value, str) and 0 < len(value) <= SHORT else ""
        why = problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{variable}{shown}: {why}{hint}")
    return "; ".join(sentences)


def doubts(settings: KernelSettings) -> list[str]:
    """A sentence for what can be used and is hardly meant."""
    folder = settings.secrets_dir
    if folder is None or folder.is_dir():
        return []
    # It may come later, as a volume does, so that it is no reason not to start.
    return [f"FLYTEAGENTS_SECRETS_DIR={folder} is no directory: no secret is read from there"]


def unknown_variables(known: Iterable[str], left_out: Sequence[str] = ()) -> list[str]:
    """A sentence for each variable `FLYTEAGENTS_*` that nothing reads. left_out: plugins that are
    installed, and not to be served."""
    names = set(known)
    sentences = []
    for name in sorted(os.environ.keys() - names - service_links(os.environ)):
        if not name.startswith(PREFIX) or name.startswith(SECRETS):
            continue
        sentences.append(f"nothing reads the variable {name}{_hint(name, names, left_out)}")
    return sentences


def _hint(name: str, known: Iterable[str], left_out: Sequence[str]) -> str:
    """What may be meant: a variable of that name's look, or one of a plugin that is not there."""
    first, _, rest = name.removeprefix(PREFIX).partition("_")
    owners = {each.removeprefix(PREFIX).partition("_")[0] for each in known}
    if rest and not difflib.get_close_matches(first, owners, n=1, cutoff=0.8):
        for plugin in difflib.get_close_matches(first.lower(), left_out, n=1, cutoff=0.8):
            right = f"{prefix_of(plugin)}{rest}"
            meant = "" if name.startswith(prefix_of(plugin)) else f"; did you mean {right}?"
            return f"{meant}; the plugin {plugin} is installed, and not in FLYTEAGENTS_PLUGINS"
        return f"; is the plugin {first.lower()} installed?"
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""

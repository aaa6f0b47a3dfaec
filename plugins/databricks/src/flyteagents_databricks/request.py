"""The body of runs/submit: what the SDKs' own connectors would send, mended where that is needed.

All runs have the shape that the API documents: one task in `tasks`. The other connectors write a
single task at the top level, as 2.0 had it. docs/databricks.md lists what else is mended.

https://docs.databricks.com/api/workspace/jobs/submit
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from flyteagents import InvalidTask, Task
from flyteagents.kit.limits import time_limit
from flyteagents.kit.tags import TagRules, flyte_ids
from flyteagents_databricks.config import DatabricksConfig
from flyteagents_databricks.environment import (
    KEY,
    environment_parameter,
    serverless_environment,
    task_environment,
)
from flyteagents_databricks.known_keys import NOT_SENT
from flyteagents_databricks.run import DESCRIPTION
from flyteagents_databricks.settings import DatabricksSettings

TAGS = TagRules(count=45, length=255, letters="A-Za-z0-9 _.:/=+@-")
"""https://docs.databricks.com/admin/account-settings/usage-detail-tags"""
PARAMETERS_LIMIT = 10_000
"""Bytes that Databricks takes for a task's parameters, as JSON."""
_TO_TASK = ("existing_cluster_id", "new_cluster", "libraries")
_FLYTETOOLS = {
    "pyflyte": ("flytekitplugins/databricks/", "572298df1f971fb58c258398bd70a6372f811c96"),
    "a0": ("flyteplugins/databricks/", "194364210c47c49ce66c419e8fb68d6f9c06fd7e"),
}
"""Where the SDKs' connectors take their entrypoints from, by the task's command."""
_RESOLVER = "--resolver"
"""The option after which both SDKs name the task's function."""
_BUNDLES = frozenset({"--additional-distribution", "--tgz", "--pkl"})
"""Options with the address of code that is not in the image."""
_NOTHING = "\0"
"""Stands for the attempt before the first; Flyte writes two quotes for what is below it."""
# References that are none of these stay as they are, and these have no escape.
# https://docs.databricks.com/jobs/dynamic-value-references
_REFERENCE = re.compile(
    r"\{\{\s*(?:(?:job|tasks?|workspace|backfill|input)\s*\.[^{}]{0,100}|input"
    r"|(?:job|run|parent_run)_id|start_(?:date|time)|task_(?:key|retry_count))\s*\}\}"
)
_NUMBERED = re.compile(r"^(?P<base>.*/)(?P<number>\d{1,9})/?$", re.DOTALL)


@dataclass(frozen=True)
class Entrypoint:
    """Where our entrypoint is: `python_file`, and the repository that has it, if it is in one."""

    python_file: str
    git_source: Mapping[str, str] = field(default_factory=dict)


def needs_entrypoint(task: Task[DatabricksConfig]) -> bool:
    """Whether the run starts with our entrypoint: the task names no file of its own."""
    conf = task.config.conf or {}
    own = conf.get("git_source") or conf.get("python_file")
    return not own and not task.config.notebook_path


def loses_environment(task: Task[DatabricksConfig]) -> bool:
    """Whether the compute takes no environment variables, and no entrypoint of ours brings them.
    Raises InvalidTask."""
    if needs_entrypoint(task):
        return False
    conf = task.config.checked()
    if task.config.serverless:
        return not serverless_environment(conf, task_environment(task))[1]
    return bool(conf.get("existing_cluster_id"))


def submit_body(
    task: Task[DatabricksConfig], settings: DatabricksSettings, entrypoint: Entrypoint | None
) -> dict[str, Any]:
    """Everything that the task says, as Databricks has it. Raises InvalidTask."""
    config = task.config
    conf = {name: value for name, value in config.checked().items() if name not in NOT_SENT}
    variables = task_environment(task)
    made: dict[str, Any] = {"description": f"{DESCRIPTION}{task.fingerprint}"}
    made |= {name: conf.pop(name) for name in _TO_TASK if conf.get(name)}

    if config.serverless:
        # By itself serverless compute runs code that failed again, up to three times: whether to
        # is for Flyte to say, and what the first run left would stand for the last one's.
        # https://docs.databricks.com/jobs/run-serverless-jobs
        made["disable_auto_optimization"] = True
        made["environment_key"], took = serverless_environment(conf, variables)
        if took:
            made["environment_variables_key"] = KEY
    else:
        took = "existing_cluster_id" not in made
        if took:
            _fill_cluster(made["new_cluster"], task, settings, variables)

    if config.notebook_path:
        made["task_key"] = "flyte_notebook_task" if config.serverless else "flyte_task"
        made["notebook_task"] = _notebook(config, conf, task.inputs)
    else:
        made["task_key"] = "flyte_task"
        given = [] if took else environment_parameter(variables)
        made["spark_python_task"] = _python(task, settings, conf, entrypoint, given)
    # The SDKs' own key: the Jobs API has it in the task, and not for the run.
    conf.pop("python_file", None)

    if not conf.get("run_name"):
        conf["run_name"] = run_name(task)
    limit = time_limit(task.timeout)
    if not conf.get("timeout_seconds") and limit is not None:
        conf["timeout_seconds"] = int(limit.total_seconds())
    conf["idempotency_token"] = idempotency_token(task)
    return {**conf, "tasks": [made]}


def idempotency_token(task: Task[DatabricksConfig]) -> str:
    """The attempt's key. A user's own token takes part in it and does not stand alone: with it
    every later execution would get the first one's run back."""
    own = (task.config.conf or {}).get("idempotency_token")
    if not own:
        return task.key.hex
    return hashlib.sha256(f"{own}\0{task.key.hex}".encode()).hexdigest()


def run_name(task: Task[DatabricksConfig]) -> str:
    """Says whose run it is; the API takes no tags for a run."""
    who = task.identity
    return f"flyte-{who.execution or 'execution'}-{who.node or 'node'}-{who.attempt}"


def _fill_cluster(
    cluster: dict[str, Any],
    task: Task[DatabricksConfig],
    settings: DatabricksSettings,
    variables: Mapping[str, str],
) -> None:
    image = task.container.image if task.container else ""
    if image and settings.docker_image and not cluster.get("docker_image"):
        cluster["docker_image"] = {"url": image}
    if not cluster.get("spark_conf"):
        cluster["spark_conf"] = dict(task.config.spark_conf)
    # Ours go before the user's, as in flytekit's connector.
    cluster["spark_env_vars"] = {**(cluster.get("spark_env_vars") or {}), **variables}
    cluster["custom_tags"] = TAGS.fit(
        ours=flyte_ids(task.identity, prefix="flyte-"),
        given=cluster.get("custom_tags") or {},
        needed={},
    )


def _notebook(
    config: DatabricksConfig, conf: Mapping[str, Any], inputs: Mapping[str, object]
) -> dict[str, Any]:
    parameters = {name: _text(value) for name, value in config.notebook_parameters.items()}
    parameters |= {name: _as_it_is(name, value) for name, value in inputs.items()}
    _check_length(parameters)
    made: dict[str, Any] = {"notebook_path": config.notebook_path}
    if parameters:
        made["base_parameters"] = parameters
    if conf.get("git_source"):
        made["source"] = "GIT"
    return made


def _python(
    task: Task[DatabricksConfig],
    settings: DatabricksSettings,
    conf: dict[str, Any],
    entrypoint: Entrypoint | None,
    environment: Sequence[str],
) -> dict[str, Any]:
    """The Python file and its parameters; sets `git_source` where the file is in one."""
    if task.container is None:
        raise InvalidTask("the task has no container, and so nothing to run")
    arguments = [*_own_prefix(task)]
    provider = task.config.provider or settings.service_credential_provider
    if task.config.serverless and provider:
        arguments.append(f"--flyte-credential-provider={provider}")

    made: dict[str, Any]
    if entrypoint is None:
        made = _own_file(task, conf, arguments)
    else:
        made = {"python_file": entrypoint.python_file, "parameters": [*environment, *arguments]}
        if entrypoint.git_source:
            made["source"] = "GIT"
            conf["git_source"] = dict(entrypoint.git_source)
    _check_length(made["parameters"])
    return made


def _own_file(
    task: Task[DatabricksConfig], conf: dict[str, Any], arguments: Sequence[str]
) -> dict[str, Any]:
    """The file that the task names, with what the SDKs' connectors add to half of a name."""
    command = arguments[0] if arguments else ""
    folder, commit = _FLYTETOOLS["a0" if command == "a0" else "pyflyte"]
    name = "entrypoint_serverless.py" if task.config.serverless else "entrypoint.py"
    file = str(conf.get("python_file") or folder + name)
    made: dict[str, Any] = {"python_file": file, "parameters": list(arguments)}
    if in_repository(file):
        made["source"] = "GIT"
        conf.setdefault(
            "git_source",
            {
                "git_url": "https://github.com/flyteorg/flytetools",
                "git_provider": "gitHub",
                "git_commit": commit,
            },
        )
    return made


def in_repository(file: str) -> bool:
    """Whether a Python file is in a repository, and not in the workspace, a volume or a bucket."""
    return not file.startswith("/") and ":/" not in file


def _own_prefix(task: Task[DatabricksConfig]) -> list[str]:
    """The container's arguments, which name the attempt's own output prefix.

    They were rendered for the attempt that Flyte asks for. Where an earlier one is settled, a run
    made under its key must write to its prefix: its outputs are looked for there. Flyte 2 has an
    attempt's checkpoints below its output prefix, so those of the attempt before are named too
    (executor/pkg/plugin/task_exec_context.go): all numbers go back by as many.
    """
    arguments = list(task.container.args) if task.container else []
    match = _NUMBERED.match(task.output_prefix)
    if match is None:
        return arguments
    named = re.compile(re.escape(match["base"]) + r"(?P<number>\d{1,9})(?=/|$)")
    numbers = [int(found["number"]) for each in arguments for found in named.finditer(each)]
    asked = max(numbers, default=0)
    back = asked - int(match["number"])

    def moved(found: re.Match[str]) -> str:
        number = int(found["number"]) - back
        return f"{match['base']}{number}" if number > 0 or number + back == asked else _NOTHING

    moves = (named.sub(moved, argument) for argument in arguments)
    return ['""' if _NOTHING in argument else argument for argument in moves]


def code_of(task: Task[DatabricksConfig]) -> list[str]:
    """The container's arguments that say which code runs. The others name places, which are other
    ones in each attempt."""
    arguments = list(task.container.args) if task.container else []
    at = arguments.index(_RESOLVER) if _RESOLVER in arguments else len(arguments)
    bundles = [value for option, value in pairwise(arguments[:at]) if option in _BUNDLES]
    return [*bundles, *arguments[at:]]


def _as_it_is(name: str, value: object) -> str:
    """An input as a notebook's parameter. Raises InvalidTask where Databricks would change it."""
    text = _text(value)
    found = _REFERENCE.search(text)
    if found is not None:
        raise InvalidTask(
            f"input {name!r} has {found[0]!r}, for which Databricks puts a value of the run's own "
            "into a notebook's parameters; pass a file, or write it into notebook_base_parameters "
            "if that is what you want"
        )
    return text


def _text(value: object) -> str:
    """An input as a notebook's parameter, which is a text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    uri = getattr(value, "uri", None)
    if isinstance(uri, str):
        return uri
    if not isinstance(value, dict | list | tuple | int | float):
        raise InvalidTask(f"a notebook takes no {type(value).__name__} as a parameter; pass a file")
    return json.dumps(value, default=_text)


def _check_length(parameters: object) -> None:
    size = len(json.dumps(parameters).encode())
    if size > PARAMETERS_LIMIT:
        raise InvalidTask(
            f"the task's parameters take {size} bytes, and Databricks takes {PARAMETERS_LIMIT}; "
            "pass large inputs as files, and large environment variables to a new cluster"
        )

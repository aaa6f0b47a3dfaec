"""Runs a Flyte task as the Python file of a Databricks job, on any compute.

Stands alone: Databricks gets this one file, and it imports what the task's image or environment
has. Its parameters are those of the task's container, `pyflyte-execute ...`,
`pyflyte-fast-execute ...` or `a0 ...`, with these around them:

--flyteagents-env=<JSON>: environment variables, for compute that takes none.
--flyte-credential-provider=<name>: the Databricks service credential that opens Flyte's store.

The runtimes of both SDKs exit with 0 when the task's code has raised, and leave an `error.pb` for
Flyte (flytekit/bin/entrypoint.py, flyte/_internal/runtime/taskrunner.py). Databricks would show a
success, so this looks for it and raises what it says.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
import types
from typing import Any

ENVIRONMENT = "--flyteagents-env="
PROVIDER = "--flyte-credential-provider="


class TaskFailed(Exception):
    """The task's code failed; another attempt is of no use."""


class RecoverableTaskFailed(Exception):
    """The task's code failed, and says that another attempt may succeed."""


def main(parameters: list[str]) -> None:
    command = []
    provider = ""
    for parameter in parameters:
        if parameter.startswith(ENVIRONMENT):
            os.environ.update(json.loads(parameter[len(ENVIRONMENT) :]))
        elif parameter.startswith(PROVIDER):
            provider = parameter[len(PROVIDER) :]
        else:
            command.append(parameter)

    if provider:
        _open_store(provider)
    if os.environ.get("DATABRICKS_RUNTIME_VERSION", "").startswith("client."):
        _offer_session()
    elif os.access("/root", os.W_OK):
        # An image has its code here, and Databricks starts somewhere else:
        # https://docs.databricks.com/en/files/cwd-dbr-14.html
        os.chdir("/root")
    if not command or command[0] not in RUNTIMES:
        raise TaskFailed(f"{command[:1]} is not a command of Flyte's: {', '.join(RUNTIMES)}")
    _without_event_loop(RUNTIMES[command[0]], command)


def flytekit(command: list[str]) -> None:
    from flytekit import FlyteContextManager
    from flytekit.bin.entrypoint import execute_task_cmd

    os.environ.setdefault("FLYTE_FAIL_ON_ERROR", "true")
    prefix = _option(command, "--output-prefix")
    left = _leaving(lambda: execute_task_cmd.main(args=command[1:], standalone_mode=False))
    files = FlyteContextManager.current_context().file_access
    error = f"{prefix.rstrip('/')}/error.pb"
    if prefix and files.exists(error):
        from flyteidl.core.errors_pb2 import ErrorDocument

        local = files.get_random_local_path()
        files.get_data(error, local)
        with open(local, "rb") as file:  # noqa: PTH123
            _tell(ErrorDocument.FromString(file.read()).error)
    _pass_on(left)


def flytekit_fast(command: list[str]) -> None:
    """Fetch the code first, in this process: a child of it would have no Spark session."""
    from flytekit.bin.entrypoint import fast_execute_task_cmd
    from flytekit.tools.fast_registration import download_distribution

    given = fast_execute_task_cmd.make_context("fast", command[1:], resilient_parsing=True).params
    source, folder = given["additional_distribution"], given["dest_dir"] or os.getcwd()  # noqa: PTH109
    inner = list(given["task_execute_cmd"])
    if source:
        download_distribution(source, folder)
        os.chdir(folder)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
        at = inner.index("--resolver") if "--resolver" in inner else len(inner)
        inner[at:at] = ["--dynamic-addl-distro", source, "--dynamic-dest-dir", folder]
    flytekit(inner)


def flyte_sdk(command: list[str]) -> None:
    import flyte.storage
    from flyte._bin.runtime import main as a0

    prefix = _option(command, "--outputs-path")
    left = _leaving(lambda: a0.main(args=command[1:], standalone_mode=False))
    error = f"{prefix.rstrip('/')}/error.pb"
    if prefix and asyncio.run(flyte.storage.exists(error)):
        from flyteidl2.core.execution_pb2 import ErrorDocument

        local = asyncio.run(flyte.storage.get(error))
        with open(local, "rb") as file:  # noqa: PTH123
            _tell(ErrorDocument.FromString(file.read()).error)
    _pass_on(left)


RUNTIMES = {
    "pyflyte-execute": flytekit,
    "pyflyte-fast-execute": flytekit_fast,
    "a0": flyte_sdk,
}


def _tell(error: Any) -> None:
    """Raise what an error.pb says: Databricks keeps the type and the text."""
    kind = RecoverableTaskFailed if error.kind == error.RECOVERABLE else TaskFailed
    raise kind(f"[{error.code}] {without_listing(error.message)}")


def without_listing(text: str) -> str:
    """Where a module is missing flyte-sdk lists all files that it sees, after the error itself: it
    may be megabytes (flyte/_internal/runtime/entrypoints.py)."""
    return re.sub(r"\nFiles found under current directory:(\n  - .*)*", "", text).strip()


def _option(command: list[str], name: str) -> str:
    for at, part in enumerate(command[:-1]):
        if part == name:
            return command[at + 1]
    return ""


def _leaving(run: Any) -> BaseException | None:
    """What `run` ends with. SystemExit waits: error.pb says more."""
    try:
        run()
    except SystemExit as left:
        return left if left.code not in (None, 0) else None
    except Exception as error:  # noqa: BLE001 # raised again, once error.pb was looked for
        return error
    return None


def _pass_on(left: BaseException | None) -> None:
    if isinstance(left, SystemExit):
        raise RuntimeError(f"the task's process wanted to exit with {left.code}")
    if left is not None:
        raise left


def _without_event_loop(run: Any, command: list[str]) -> None:
    """Databricks executes files inside a running event loop, and both SDKs start their own."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run(command)
        except BaseException as error:  # noqa: BLE001 # raised again outside of the thread
            raised.append(error)

    thread = threading.Thread(target=work, name="flyte-task")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _offer_session() -> None:
    """Serverless compute has one Spark session, which flytekit looks for here
    (flytekitplugins/spark/task.py, _get_databricks_serverless_spark_session)."""
    from pyspark.sql import SparkSession

    os.environ["DATABRICKS_SERVERLESS"] = "true"
    module = types.ModuleType("_flyte_spark_session")
    module.spark = SparkSession.builder.getOrCreate()  # type: ignore[attr-defined] # made here
    sys.modules["_flyte_spark_session"] = module


def _open_store(provider: str) -> None:
    """AWS credentials out of a Databricks service credential, which serverless compute needs.
    https://docs.databricks.com/connect/unity-catalog/cloud-services/use-service-credentials"""
    import boto3
    from databricks.sdk.runtime import dbutils

    session = boto3.Session(
        botocore_session=dbutils.credentials.getServiceCredentialsProvider(provider)
    )
    keys = session.get_credentials().get_frozen_credentials()
    os.environ["AWS_ACCESS_KEY_ID"] = keys.access_key
    os.environ["AWS_SECRET_ACCESS_KEY"] = keys.secret_key
    os.environ["AWS_SESSION_TOKEN"] = keys.token


if __name__ == "__main__":
    main(sys.argv[1:])

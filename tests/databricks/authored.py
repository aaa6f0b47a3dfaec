"""The tasks of `image` as their SDKs serialise them, and what the SDKs' own connectors would send.

Runs in the environment of `requirements/databricks.txt`, as `authored.py <sdk>`, and prints a JSON
line for each task: its name, in base64 its TaskTemplate and its inputs, and the body of the submit
that the SDK's own connector makes of it, where it does make one.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "image"))


def encode(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def of_flytekit() -> None:
    import flytekit_tasks
    from flytekit import FlyteContextManager
    from flytekit.configuration import ImageConfig, SerializationSettings
    from flytekit.core.type_engine import TypeEngine
    from flytekit.models.task import TaskTemplate
    from flytekit.tools.translator import get_serializable
    from flytekitplugins.spark.connector import _get_databricks_job_spec

    settings = SerializationSettings(
        ImageConfig.auto(img_name="image:v1"), project="project", domain="development", version="v1"
    )
    for task in flytekit_tasks.TASKS:
        context = FlyteContextManager.current_context()
        values = {name: flytekit_tasks.VALUES[name] for name in task.python_interface.inputs}
        inputs = TypeEngine.dict_to_literal_map(context, values, task.python_interface.inputs)
        template = get_serializable(OrderedDict(), settings, task).template
        # As its service reads it, off the wire.
        read = TaskTemplate.from_flyte_idl(template.to_flyte_idl())
        tell(
            task.name.rpartition(".")[2],
            template.to_flyte_idl(),
            inputs.to_flyte_idl(),
            _get_databricks_job_spec(read),
        )


async def of_flyte_sdk() -> None:
    import flyte
    import flyte_tasks
    from flyte._internal.runtime.convert import convert_from_native_to_inputs
    from flyte._internal.runtime.task_serde import translate_task_to_wire
    from flyte.models import SerializationContext
    from flyteplugins.databricks.connector import _get_databricks_job_spec

    await flyte.init.aio(root_dir=Path(__file__).parent / "image")
    context = SerializationContext(
        "v1",
        project="project",
        domain="development",
        org="org",
        root_dir=Path(__file__).parent / "image",
    )
    for task in flyte_tasks.TASKS:
        inputs = await convert_from_native_to_inputs(task.native_interface, **flyte_tasks.VALUES)
        template = translate_task_to_wire(task, context).task_template
        try:
            spec = _get_databricks_job_spec(template)
        except ValueError:  # it knows no serverless compute
            spec = None
        tell(task.name.rpartition(".")[2], template, inputs.proto_inputs, spec)


def tell(name: str, template: Any, inputs: Any, spec: Any) -> None:
    told = {"name": name, "template": encode(template), "inputs": encode(inputs), "spec": spec}
    print(json.dumps(told, default=list), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "flytekit":
        of_flytekit()
    else:
        asyncio.run(of_flyte_sdk())

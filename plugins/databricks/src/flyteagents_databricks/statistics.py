"""Databricks' numbers of a run."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents_databricks.run import Run


def run_statistics(run: Run) -> dict[str, bool | int | float | str]:
    """What there is of a run's numbers, for its trace, and summed up for metrics."""
    # Those of a run with tasks are 0, and its tasks have them.
    setup = run.setup_duration or sum(task.setup_duration for task in run.tasks)
    execution = run.execution_duration or sum(task.execution_duration for task in run.tasks)
    cleanup = run.cleanup_duration or sum(task.cleanup_duration for task in run.tasks)
    ended = run.status.termination_details
    found: dict[str, bool | int | float | str] = {
        "setup_ms": setup,
        "execution_ms": execution,
        "cleanup_ms": cleanup,
        "queue_ms": run.queue_duration,
        "run_ms": run.run_duration,
        "tasks": len(run.tasks),
        "performance_target": run.effective_performance_target,
        "termination_code": ended.code,
        "termination_type": ended.type,
    }
    return {name: value for name, value in found.items() if value}


def run_info(run: Run) -> Mapping[str, object]:
    """The same for `custom_info`, with what names the run."""
    clusters = [task.cluster_instance for task in run.tasks] or [run.cluster_instance]
    found: dict[str, object] = {
        "run_id": str(run.run_id),
        "job_id": str(run.job_id) if run.job_id else "",
        "state": run.state.life_cycle_state or run.status.state,
        "result": run.state.result_state,
        "page": run.run_page_url,
        "cluster_id": clusters[0].cluster_id,
        "spark_context_id": clusters[0].spark_context_id,
        "attempt_number": run.attempt_number,
        **run_statistics(run),
    }
    return {name: value for name, value in found.items() if value not in ("", None)}

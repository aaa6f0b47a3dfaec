"""Each test of the contract is seen to fail for an agent that breaks its promise.

That they pass for sound agents is in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio
from tests.contract.job_service import TOKEN, JobServiceContract

from flyteagents import Phase
from flyteagents.testing import FlyteTask, RealServer, Response, task_template
from flyteagents.testing.contract import AgentContract, SyncAgentContract, VendorControl
from flyteagents.testing.contract.rig import Rig, rigged

AGENTS = Path(__file__).with_name("agents")
PATH = (AGENTS, Path(__file__).parents[2])
# What the contract asks of the kernel, whatever the agent does: there is no agent to break it.
KERNELS_OWN = {
    "test_the_task_type_is_listed_for_both_generations",
    "test_delete_is_ok_for_attempts_that_have_no_job",
}
# They need a server that has not moved blocking agents away yet, and has not learnt the token.
FRESH = {"blocks_in_create", "blocks_in_get", "tells_the_token"}
CAUGHT_BEFORE_THE_END = {
    "goes_backwards",
    "links_later",
    "shows_one_reply_of_two",
    "forgets_its_info",
    "ends_its_info_with_null",
}
CASES: list[tuple[str, str, str]] = [
    # the agent, the test of the contract, and what the test says
    ("ignores_the_key", "test_a_repeated_create_names_the_same_job", "job-"),
    ("ignores_the_key", "test_creates_at_the_same_time_start_one_job", "job-"),
    ("ignores_the_key", "test_a_server_that_is_killed_while_it_creates_loses_no_job", "2 == 1"),
    ("refuses_its_own_jobs", "test_a_repeated_create_names_the_same_job", "no job was made"),
    (
        "fingerprints_the_prefix",
        "test_the_next_attempt_takes_over_a_job_whose_reply_was_lost",
        "2 == 1",
    ),
    ("ignores_the_key", "test_the_next_attempt_takes_over_a_job_whose_reply_was_lost", "2 == 1"),
    ("adopts_nothing", "test_the_next_attempt_takes_over_a_job_whose_reply_was_lost", "2 == 1"),
    ("asks_itself_for_its_endpoint", "test_a_repeated_create_names_the_same_job", "RuntimeError"),
    (
        "looks_before_it_submits",
        "test_a_submit_that_arrives_late_does_not_double_the_job",
        "2 == 1",
    ),
    ("takes_any_job", "test_a_key_that_is_used_for_other_work_is_a_conflict", "FAILED"),
    ("blocks_in_create", "test_create_answers_in_time_while_its_vendor_hangs", "DEADLINE"),
    (
        "blocks_in_get",
        "test_a_known_phase_is_answered_quickly_by_a_slow_vendor",
        "DEADLINE_EXCEEDED",
    ),
    ("wraps_errors", "test_what_the_vendor_refuses_at_create_is_told_by_get", "INTERNAL"),
    ("wraps_errors", "test_a_vendor_that_is_down_at_create_costs_one_attempt_at_most", "INTERNAL"),
    ("wraps_errors", "test_a_vendor_that_fails_for_a_moment_does_not_fail_delete", "INTERNAL"),
    (
        "takes_an_outage_for_the_users_fault",
        "test_a_vendor_that_is_down_at_create_costs_one_attempt_at_most",
        "FAILED",
    ),
    (
        "takes_an_outage_for_the_users_fault",
        "test_get_never_fails_when_the_vendor[throttles]",
        "FAILED",
    ),
    (
        "takes_an_outage_for_the_users_fault",
        "test_get_never_fails_when_the_vendor[wants other credentials]",
        "FAILED",
    ),
    (
        "takes_an_outage_for_the_users_fault",
        "test_get_never_fails_when_the_vendor[forbids it]",
        "FAILED",
    ),
    ("fails_jobs_in_an_outage", "test_get_never_fails_when_the_vendor[is overloaded]", "FAILED"),
    ("fails_jobs_in_an_outage", "test_get_never_fails_when_the_vendor[fails]", "FAILED"),
    ("fails_jobs_in_an_outage", "test_get_never_fails_when_the_vendor[hangs up]", "FAILED"),
    ("fails_jobs_in_an_outage", "test_get_never_fails_when_the_vendor[speaks no HTTP]", "FAILED"),
    (
        "fails_jobs_in_an_outage",
        "test_get_never_fails_when_the_vendor[answers with a page]",
        "FAILED",
    ),
    (
        "trusts_replies",
        "test_get_never_fails_when_the_vendor[answers with an empty object]",
        "KeyError",
    ),
    ("trusts_replies", "test_get_never_fails_when_the_vendor[answers with a list]", "TypeError"),
    (
        "raises_on_unknown_states",
        "test_a_state_that_the_agent_does_not_know_keeps_the_phase",
        "ValueError",
    ),
    (
        "takes_unknown_states_for_failures",
        "test_a_state_that_the_agent_does_not_know_keeps_the_phase",
        "FAILED",
    ),
    ("goes_backwards", "test_a_phase_is_never_taken_back", "INITIALIZING"),
    ("shows_one_reply_of_two", "test_a_phase_is_never_taken_back", "it did not end: [<Phase.RUN"),
    ("links_later", "test_a_phase_is_never_taken_back", "Link"),
    ("forgets_its_info", "test_what_custom_info_says_is_said_until_the_end[well]", "['ahead']"),
    (
        "ends_its_info_with_null",
        "test_what_custom_info_says_is_said_until_the_end[well]",
        "leaves out ['ahead']",
    ),
    ("asks_too_much", "test_polls_that_overlap_share_one_look", "one poll made 4 requests"),
    (
        "takes_missing_for_done",
        "test_a_job_that_its_vendor_forgot_is_told_of_once_it_is_not_young",
        "SUCCEEDED",
    ),
    ("raises_on_missing_jobs", "test_delete_is_ok_for_a_job_that_its_vendor_forgot", "INTERNAL"),
    ("cancels_nothing", "test_a_cancelled_job_has_stopped_when_delete_answers", "runs on"),
    ("cancels_nothing", "test_a_job_can_be_cancelled_before_it_is_looked_at", "1 == 0"),
    ("calls_it_stopped_too_early", "test_delete_waits_for_a_cancel_that_takes_time", "runs on"),
    (
        "hides_that_it_is_stopping",
        "test_a_retry_does_not_adopt_a_job_that_is_being_stopped",
        "job-",
    ),
    ("destroys_results", "test_the_results_of_a_finished_job_survive_delete", "SUCCEEDED"),
    (
        "loses_the_reason",
        "test_a_job_that_fails_says_why_and_the_next_attempt_has_its_own",
        "not told why",
    ),
    ("returns_texts", "test_a_task_succeeds_with_the_outputs_it_declares[1]", "FAILED"),
    ("keeps_too_much", "test_resource_meta_is_small", "bytes"),
    (
        "takes_any_handle",
        "test_damaged_resource_meta_is_refused_before_the_vendor_is_asked",
        "INVALID_ARGUMENT",
    ),
    ("keeps_the_token", "test_no_secret_is_seen_anywhere", "canary"),
    ("tells_the_token", "test_no_secret_is_seen_anywhere", "canary"),
]


class BadContract(JobServiceContract):
    plugins = ("bad",)
    python_path = PATH
    idempotency = "vendor"

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return {"FLYTEAGENTS_BAD_URL": vendor.url, "FLYTEAGENTS_SECRET_JOBS_TOKEN": TOKEN}

    def succeeds(self) -> FlyteTask:
        """What some agents say of a job that has not ended is their fault: it must be asked for in
        time, also by a test that a busy machine holds up."""
        slow = self.task_type in CAUGHT_BEFORE_THE_END
        return self.task("sleep 2; return 7") if slow else super().succeeds()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    of = BadContract()
    async with rigged(of.vendor(), of.environment, of.plugins, of.python_path, of.base) as rig:
        yield rig


@pytest.mark.parametrize(("task_type", "test", "says"), CASES)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_agent_that_breaks_a_promise_is_caught(
    rig: Rig, task_type: str, test: str, says: str
) -> None:
    contract = type("Contract", (BadContract,), {"task_type": task_type})()
    if task_type in FRESH:
        await rig.restart(rig.first)
    name, _, argument = test.rstrip("]").partition("[")
    arguments = [int(argument) if argument.isdigit() else argument] if argument else []
    try:
        with pytest.raises(AssertionError) as caught:
            await getattr(contract, name)(rig, *arguments)
        assert says in str(caught.value)
    except pytest.skip.Exception:
        pytest.fail("the contract skipped the test")
    finally:
        await rig.clear()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_failure_says_what_the_agent_raised_in_the_server(rig: Rig) -> None:
    class Contract(BadContract):
        task_type = "trusts_replies"

        async def test_it_runs(self, rig: Rig) -> None:
            rig.vendor.fault("look", Response(200, []), repeat=True)
            attempt = rig.attempt(self.runs_long())
            meta = await rig.create(attempt, rig.first)
            await rig.reach(attempt, meta, rig.first, Phase.RUNNING, within=1.0)

    try:
        with pytest.raises(AssertionError) as caught:
            await Contract().test_it_runs(rig)
    finally:
        await rig.clear()
    assert "instead of RUNNING after 1 s" in str(caught.value)
    assert "TypeError" in str(caught.value)
    assert "bad_agents.py" in str(caught.value), "the line of the agent is missing"


def test_each_promise_has_an_agent_that_breaks_it() -> None:
    promised = {name for name in dir(AgentContract) if name.startswith("test_")}
    assert promised - {test.partition("[")[0] for _, test, _ in CASES} == KERNELS_OWN


class BadSyncContract(SyncAgentContract):
    outputs: ClassVar = {"result": 7.0}

    def succeeds(self) -> FlyteTask:
        custom = {"script": "return 7"}
        return task_template(self.task_type, custom=custom, outputs={"result": float})

    def fails(self) -> FlyteTask:
        return task_template(self.task_type, custom={"script": "dance"})


@pytest.mark.parametrize(
    ("task_type", "test", "arguments"),
    [
        ("never_fails", "test_a_failure_is_told_with_its_reason", (1,)),
        ("echoes_texts", "test_a_task_succeeds_with_the_outputs_it_declares", (2,)),
        ("takes_its_time", "test_flyte_1_may_send_it_as_an_asynchronous_task", ()),
    ],
)
async def test_a_synchronous_agent_that_breaks_a_promise_is_caught(
    task_type: str, test: str, arguments: tuple[int, ...]
) -> None:
    contract = type("Contract", (BadSyncContract,), {"task_type": task_type})()
    async with RealServer(["bad"], python_path=PATH) as server:
        with pytest.raises(AssertionError):
            await getattr(contract, test)(server, *arguments)

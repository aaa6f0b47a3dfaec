"""The fake FlytePropeller does what the real one was seen to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from flyteidl.core import literals_pb2
from flyteidl2.connector import connector_pb2 as flyte2
from tests.unit.scripted_agent import Agent, Answer, always, in_turn, serving

from flyteagents import Phase
from flyteagents.testing import (
    Attempt,
    FakePropeller,
    Generation,
    NotSent,
    Outcome,
    free_port,
    task_template,
)

SUCCEEDED, FAILED, RUNNING, RETRYABLE, ABORTED = 3, 5, 2, 8, 4
DOWN = grpc.StatusCode.UNAVAILABLE
FLAKY: tuple[Answer, ...] = (RUNNING, DOWN)
TASK = task_template("a", custom={"x": 1})


async def live(
    agent: Agent,
    attempts: int = 1,
    generation: Generation = 1,
    repeats: int = 0,
    workers: int = 1,
) -> Outcome:
    """With one worker polls do not overlap, however slow this machine is: Flyte counts fewer errors
    of those that do."""
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, generation=generation, scale=0.001, workers=workers) as propeller,
    ):
        return await propeller.run(TASK, attempts=attempts, repeats=repeats, within=60)


def methods(outcome: Outcome) -> str:
    """The history as its first letters; polls in a row are one."""
    letters = "".join(rpc.method[0] for rpc in outcome.history)
    while "GG" in letters:
        letters = letters.replace("GG", "G")
    return letters


async def test_a_good_job_is_created_polled_and_left_alone() -> None:
    outcome = await live(Agent(get=in_turn(RUNNING, RUNNING, SUCCEEDED)))
    assert outcome.phase is Phase.SUCCEEDED
    assert outcome.phases == [Phase.RUNNING, Phase.RUNNING, Phase.SUCCEEDED]
    assert methods(outcome) == "CG"


def test_custom_info_is_stored_as_it_comes_first_and_then_merged() -> None:
    outcome = Outcome()
    for info, shown in (
        ({}, {}),
        ({"state": None, "n": {"a": 1, "b": 2}}, {"state": None, "n": {"a": 1, "b": 2}}),
        ({"n": {"b": None, "c": 3}}, {"state": None, "n": {"a": 1, "c": 3}}),
        ({"state": None, "n": 4}, {"n": 4}),
        ({}, {"n": 4}),
    ):
        outcome.merge(info)
        assert outcome.info == shown


async def test_flyte_2_deletes_what_has_ended() -> None:
    outcome = await live(Agent(), generation=2)
    assert outcome.phase is Phase.SUCCEEDED
    assert methods(outcome) == "CGD"


async def test_a_repeated_create_keeps_the_first_answer() -> None:
    agent = Agent()
    outcome = await live(agent, repeats=1)
    assert methods(outcome) == "CCG"
    first, again, poll = (request for _, request in agent.requests[:3])
    assert first == again
    assert poll.resource_meta == b"meta-0"


async def test_a_create_that_failed_in_a_lost_round_is_made_again_for_the_same_attempt() -> None:
    agent = Agent(create=in_turn(DOWN, 0))
    outcome = await live(agent, repeats=1)
    assert outcome.phase is Phase.SUCCEEDED
    assert (methods(outcome), outcome.attempts) == ("CCG", 1)
    first, again, poll = (request for _, request in agent.requests[:3])
    assert first == again
    assert poll.resource_meta == b"meta-1"


async def test_several_replicas_behind_one_target_are_called_in_turn() -> None:
    agents = Agent(), Agent()
    async with (
        serving(agents[0]) as one,
        serving(agents[1]) as two,
        FakePropeller(f"ipv4:{one},{two}", scale=0.001) as propeller,
    ):
        # As soon as there is a connection to each.
        await until(lambda: all(agent.calls["CreateTask"] for agent in agents), propeller)
        before = [agent.calls["CreateTask"] for agent in agents]
        for _ in range(20):
            assert (await propeller.create(propeller.attempt(TASK))).ok
    assert all(
        agent.calls["CreateTask"] >= old + 5 for agent, old in zip(agents, before, strict=True)
    )


async def until(true: Callable[[], bool], propeller: FakePropeller) -> None:
    """Call until it is so."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        assert (await propeller.create(propeller.attempt(TASK))).ok


async def test_a_failed_create_burns_an_attempt_at_once_and_deletes_nothing() -> None:
    agent = Agent(create=in_turn(DOWN, DOWN, 0))
    outcome = await live(agent, attempts=3)
    assert outcome.phase is Phase.SUCCEEDED
    assert methods(outcome) == "CCCG"
    creates = outcome.calls("CreateTask")
    assert 0.09 < creates[1].began - creates[0].began < 15
    prefixes = [request.output_prefix for name, request in agent.requests if name == "CreateTask"]
    assert [prefix.rsplit("/", 1)[1] for prefix in prefixes] == ["0", "1", "2"]
    assert len({prefix.rsplit("/", 1)[0] for prefix in prefixes}) == 1


async def test_flyte_2_counts_prefixes_from_one_and_attempts_from_zero() -> None:
    agent = Agent(create=in_turn(DOWN, 0))
    await live(agent, attempts=2, generation=2)
    creates = [request for name, request in agent.requests if name == "CreateTask"]
    assert [request.output_prefix.rsplit("/", 1)[1] for request in creates] == ["1", "2"]
    ids = [request.task_execution_metadata.task_execution_id for request in creates]
    assert [of.retry_attempt for of in ids] == [0, 1]


async def test_the_last_failed_create_fails_the_task_with_the_servers_text() -> None:
    outcome = await live(Agent(create=always(DOWN)), attempts=2)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 2)
    assert "UNAVAILABLE: as the test says" in outcome.message


async def test_six_failed_polls_fail_a_task_that_never_had_a_good_one() -> None:
    outcome = await live(Agent(get=always(DOWN)), attempts=3)
    assert outcome.phase is Phase.FAILED
    assert "AutoRefreshCacheFailed" in outcome.message
    assert (outcome.attempts, len(outcome.failures)) == (1, 6)


async def test_six_failed_polls_in_its_whole_life_leave_a_task_hanging() -> None:
    outcome = await live(Agent(get=in_turn(*FLAKY * 6, SUCCEEDED)))
    assert outcome.stuck
    assert outcome.phase is None
    assert outcome.phases == [Phase.RUNNING] * 6


async def test_five_failed_polls_are_forgiven() -> None:
    outcome = await live(Agent(get=in_turn(*FLAKY * 5, SUCCEEDED)))
    assert outcome.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_retry_is_preceded_by_delete(generation: Generation) -> None:
    agent = Agent(get=lambda _: SUCCEEDED if agent.calls["CreateTask"] == 2 else RETRYABLE)
    outcome = await live(agent, attempts=3, generation=generation)
    assert (outcome.phase, outcome.attempts) == (Phase.SUCCEEDED, 2)
    assert methods(outcome) == {1: "CGDCG", 2: "CGDCGD"}[generation]


async def test_eleven_failed_deletes_abort_the_workflow_in_flyte_1() -> None:
    outcome = await live(Agent(get=always(RETRYABLE), delete=always(DOWN)), attempts=2)
    assert outcome.phase is Phase.FAILED
    assert "workflow was aborted" in outcome.message
    assert len(outcome.calls("DeleteTask")) == 11
    assert outcome.attempts == 1


async def test_a_failed_delete_before_a_retry_is_ignored_by_flyte_2() -> None:
    agent = Agent(get=always(RETRYABLE), delete=in_turn(DOWN, 0))
    outcome = await live(agent, attempts=2, generation=2)
    assert outcome.attempts == 2


async def test_a_failed_job_is_neither_retried_nor_deleted() -> None:
    outcome = await live(Agent(get=always(FAILED)), attempts=3)
    assert (outcome.phase, outcome.message) == (Phase.FAILED, "failed to run the job: why")
    assert methods(outcome) == "CG"


async def test_the_message_of_an_aborted_job_is_lost() -> None:
    outcome = await live(Agent(get=always(ABORTED)))
    assert (outcome.phase, "why" in outcome.message) == (Phase.FAILED, False)


@pytest.mark.parametrize("phase", [0, 77])
async def test_a_phase_that_flyte_does_not_know_fails_the_task(phase: int) -> None:
    outcome = await live(Agent(get=always(phase)), attempts=3)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 1)


async def test_slow_polls_overlap() -> None:
    agent = Agent(get=in_turn(RUNNING, RUNNING, RUNNING, SUCCEEDED), seconds=0.1)
    await live(agent, workers=10)
    assert agent.overlapping > 1


async def test_an_abort_ends_the_polls_and_deletes() -> None:
    agent = Agent(get=always(RUNNING), delete=in_turn(DOWN, 0))
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, scale=0.001) as propeller,
    ):
        task = propeller.start(TASK)
        await task.until(Phase.RUNNING)
        outcome = await task.abort()
    assert (outcome.phase, outcome.orphaned) == (Phase.ABORTED, False)
    assert methods(outcome) == "CGDD"


async def test_an_abort_that_nobody_takes_leaves_an_orphan() -> None:
    agent = Agent(get=always(RUNNING), delete=always(DOWN))
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, scale=0.001) as propeller,
    ):
        task = propeller.start(TASK)
        await task.until(Phase.RUNNING)
        outcome = await task.abort()
    assert outcome.orphaned
    assert len(outcome.calls("DeleteTask")) == 11


async def test_each_attempt_that_takes_too_long_is_deleted_also_the_last() -> None:
    agent = Agent(get=always(RUNNING))
    task = task_template("a", timeout=0.05)
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, scale=0.001) as propeller,
    ):
        outcome = await propeller.run(task, attempts=2)
    assert (outcome.phase, outcome.message) == (Phase.FAILED, "TimeoutExpired")
    assert methods(outcome) == "CGDCGD"


async def test_calls_carry_their_deadline() -> None:
    agent = Agent()
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, scale=0.001, deadline=30.0, deadlines={"GetTask": None}) as caller,
    ):
        await caller.run(TASK)
    create, get = agent.remaining[:2]
    assert create is not None
    # Above 30 s by some milliseconds: gRPC rounds a timeout up when it writes it.
    assert 15 < create < 30.5
    assert get is None


async def test_replicas_are_called_in_turn_and_a_dead_one_is_left_out() -> None:
    agents, dead = (Agent(get=always(RUNNING)), Agent(get=always(RUNNING))), free_port()
    async with (
        serving(agents[0]) as one,
        serving(agents[1]) as two,
        FakePropeller(one, two, f"127.0.0.1:{dead}") as propeller,
    ):
        attempt = propeller.attempt(TASK)
        rpcs = [await propeller.get(attempt, b"") for _ in range(12)]
    assert all(agent.calls["GetTask"] >= 4 for agent in agents)
    assert sum(not rpc.ok for rpc in rpcs) <= 2, "the dead one was asked again and again"


async def test_agents_are_listed_on_a_new_connection_each_time() -> None:
    agent = Agent()
    async with serving(agent) as endpoint, FakePropeller(endpoint) as propeller:
        assert propeller.agents == {"a": False}
        await propeller.list_agents()
    assert len(set(agent.peers)) == len(agent.peers) >= 2


async def test_a_synchronous_task_is_one_stream_that_is_closed_by_half() -> None:
    agent = Agent(sync=SUCCEEDED)
    outcome = await live(agent)
    assert outcome.phase is Phase.SUCCEEDED
    assert methods(outcome) == "E"
    parts = [request.WhichOneof("part") for _, request in agent.requests]
    assert parts == ["header", "inputs"]


async def test_a_synchronous_answer_that_is_not_terminal_hangs_the_task() -> None:
    outcome = await live(Agent(sync=RUNNING))
    assert outcome.stuck


async def test_flyte_2_tells_what_the_real_executor_tells() -> None:
    agent = Agent()
    await live(agent, generation=2)
    (raw,) = (raw for method, raw in agent.sent if method == "CreateTask")
    request = flyte2.CreateTaskRequest.FromString(raw)
    # s3://bucket/<shard>/org/project/domain/run/action/attempt
    scheme, _, bucket, shard, *rest = request.output_prefix.split("/")
    assert (scheme, bucket, len(shard)) == ("s3:", "flyte", 2)
    metadata = request.task_execution_metadata
    execution = metadata.task_execution_id.node_execution_id.execution_id
    assert rest == ["flyte", "tests", "development", execution.name, "a0", "1"]
    assert metadata.labels["organization"] == execution.org == "flyte"
    assert metadata.k8s_service_account == ""
    assert dict(metadata.environment_variables) == {
        "ACTION_NAME": "a0",
        "RUN_NAME": execution.name,
        "_U_RUN_BASE": f"s3://flyte/flyte/tests/development/{execution.name}",
        "_U_ORG_NAME": "flyte",
    }
    assert request.HasField("connection")
    assert request.connection == flyte2.CreateTaskRequest().connection


async def test_attempts_of_flyte_2_share_a_shard_and_executions_do_not() -> None:
    attempt = Attempt(TASK, execution="one", generation=2, base="s3://b/deep")
    other = Attempt(TASK, execution="two", generation=2, base="s3://b/deep")
    shards = [each.output_prefix.split("/")[3] for each in (attempt, attempt.next(), other)]
    assert shards[0] == shards[1] != shards[2]
    assert attempt.output_prefix.startswith(f"s3://b/{shards[0]}/deep/flyte/tests/")


async def test_an_abort_in_flyte_2_is_tried_until_it_is_taken() -> None:
    agent = Agent(get=always(RUNNING), delete=in_turn(*[DOWN] * 14, 0))
    async with (
        serving(agent) as endpoint,
        FakePropeller(endpoint, generation=2, scale=0.001) as propeller,
    ):
        task = propeller.start(TASK)
        await task.until(Phase.RUNNING)
        outcome = await task.abort()
    assert (outcome.phase, outcome.orphaned) == (Phase.ABORTED, False)
    assert len(outcome.calls("DeleteTask")) == 15


async def test_flyte_2_sends_no_task_without_custom_or_with_secrets_that_it_does_not_have() -> None:
    agent = Agent()
    async with serving(agent) as endpoint, FakePropeller(endpoint, generation=2) as propeller:
        with pytest.raises(NotSent, match="nil Struct"):
            propeller.start(task_template("a"))
        with pytest.raises(NotSent, match="nowhere"):
            propeller.start(task_template("a", custom={"secrets": {"token": "nowhere"}}))
    assert agent.calls == {}


async def test_flyte_2_sends_the_secrets_values() -> None:
    secrets = {"known": "v41ue"}
    async with (
        serving(Agent()) as endpoint,
        FakePropeller(endpoint, generation=2, secrets=secrets) as propeller,
    ):
        attempt = propeller.attempt(
            task_template("a", custom={"secrets": {"token": "known"}, "configs": {"c": "d"}})
        )
    assert attempt.secrets == {"token": "v41ue"}
    assert attempt.configs == {"c": "d"}
    assert "v41ue" not in repr(attempt)


async def test_outputs_that_the_job_wrote_are_read_from_its_prefix(tmp_path: Path) -> None:
    task = task_template("a", outputs={"n": int})
    async with (
        serving(Agent()) as endpoint,
        FakePropeller(endpoint, scale=0.001, base=str(tmp_path)) as propeller,
    ):
        missing = await propeller.run(task)
        assert (missing.phase, missing.message) == (Phase.FAILED, "OutputsNotFound")
        execution = propeller.start(task)
        folder = Path(execution.attempt.output_prefix)
        folder.mkdir(parents=True)  # noqa: ASYNC240 # a test's folder
        three = literals_pb2.LiteralMap()
        three.literals["n"].scalar.primitive.integer = 3
        (folder / "outputs.pb").write_bytes(three.SerializeToString())
        assert (await execution.end()).outputs == {"n": 3}

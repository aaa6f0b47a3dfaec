"""The tests that every agent should pass: subclass `AgentContract`, or `SyncAgentContract`."""

from flyteagents.testing.extra import needs_extra

with needs_extra(__name__):
    import pytest
    import pytest_asyncio  # noqa: F401 # said here, and not in some module below

# Asserts outside of test modules are not told apart otherwise.
for _name in ("cancelling", "creating", "meta", "polling", "rig", "synchronous", "telling"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from flyteagents.testing.contract.cancelling import DeletePromises  # noqa: E402
from flyteagents.testing.contract.control import HttpControl, VendorControl, What  # noqa: E402
from flyteagents.testing.contract.creating import CreatePromises  # noqa: E402
from flyteagents.testing.contract.meta import MetaPromises  # noqa: E402
from flyteagents.testing.contract.polling import GetPromises  # noqa: E402
from flyteagents.testing.contract.rig import Rig, job  # noqa: E402
from flyteagents.testing.contract.synchronous import SyncAgentContract  # noqa: E402


class AgentContract(CreatePromises, GetPromises, DeletePromises, MetaPromises):
    """One test for each promise of the service that an agent can break; see docs/contract.md.

    ```python
    class TestAcme(AgentContract):
        task_type, idempotency = "acme_job", "vendor"
        plugins = ["acme"]
        outputs = {"rows": 3}

        @asynccontextmanager
        async def vendor(self) -> AsyncIterator[VendorControl]:
            async with FakeAcme() as acme:
                yield HttpControl(acme, submit=("POST", "/jobs"), look=("GET", "/jobs/*"),
                                  cancel=("POST", "/jobs/*/cancel"), started=..., live=...)

        def environment(self, vendor: VendorControl) -> Mapping[str, str]:
            return {"FLYTEAGENTS_ACME_URL": vendor.url}

        def succeeds(self) -> FlyteTask:
            return task_template("acme_job", custom={"script": "count"}, outputs={"rows": int})
        ...
    ```
    It needs `flyteagents[testing]`, starts two real servers for each subclass, and asks them over
    gRPC. Tests for which the vendor's fake cannot do what is needed are skipped.

    How it may grow: a release may add tests for promises that the docs already made, and hooks
    that have a default; both stand in the changelog. No release takes away a hook, or makes a
    test ask for more than its first sentence says. Where your vendor cannot keep a promise,
    override that test with one that says what happens instead.
    """


__all__ = [
    "AgentContract",
    "HttpControl",
    "Rig",
    "SyncAgentContract",
    "VendorControl",
    "What",
    "job",
]

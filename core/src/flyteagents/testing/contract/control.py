"""What the contract asks of a vendor's fake: what was started there, and to fail on request.

The tests know three kinds of request and nothing else of a vendor; what a fake cannot do skips the
tests that need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import pytest

from flyteagents._task import Key
from flyteagents.testing.vendor import FakeVendor, Response, Step

What = Literal["submit", "look", "cancel"]
"""A request that starts a job, one that asks how a job is doing, one that stops it."""
_MISSING = Response(404, {"error": "no such job"})
_REFUSED = Response(403)


class VendorControl(ABC):
    """Subclass for a vendor that does not speak HTTP; `HttpControl` is for those that do.

    Only `started` and `live` must be there. Tests that need more are skipped where it is missing.
    url: where the fake is.
    missing: how the vendor answers about a job that it does not know.
    refused: how it answers a submit that it will never take.
    unknown_state: an answer about a job with a state that no agent has heard of.
    """

    url = ""
    faulty = False
    missing: Step = _MISSING
    refused: Step = _REFUSED
    unknown_state: Step = None

    @abstractmethod
    def started(self, key: Key) -> int:
        """How many jobs were ever started that carry this key, in an id, a header or a label."""

    @abstractmethod
    def live(self, key: Key) -> int:
        """How many of them have not ended."""

    def requests(self, what: What | None = None) -> int:
        """How many requests have come so far, of this kind or of any."""
        pytest.skip("this vendor's requests cannot be counted")

    def fault(self, what: What, *steps: Step, repeat: bool = False) -> None:
        """Do `steps` with the next requests of this kind, one after another; with `repeat` again
        and again until `heal`."""
        pytest.skip("this vendor cannot be made to fail")

    def heal(self) -> None:  # noqa: B027 # nothing to end where nothing can be made to fail
        """End all faults."""

    def slow_cancel(self, seconds: float) -> None:
        """Have cancels take that long; 0 again is as usual."""
        if seconds:
            pytest.skip("this vendor's cancels cannot be slowed down")


class HttpControl(VendorControl):
    """Controls a `FakeVendor`.

    submit, look, cancel: method and path pattern of these requests, as `FakeVendor.script` has
        them.
    started, live: as the methods. slow_cancel: told how long cancels are to take.
    """

    faulty = True

    def __init__(
        self,
        vendor: FakeVendor,
        *,
        submit: tuple[str, str],
        look: tuple[str, str],
        cancel: tuple[str, str],
        started: Callable[[Key], int],
        live: Callable[[Key], int],
        missing: Step = _MISSING,
        refused: Step = _REFUSED,
        unknown_state: Step = None,
        slow_cancel: Callable[[float], None] | None = None,
    ) -> None:
        self.vendor, self.url = vendor, vendor.url
        self.missing, self.refused, self.unknown_state = missing, refused, unknown_state
        self._patterns: Mapping[What, tuple[str, str]] = {
            "submit": submit,
            "look": look,
            "cancel": cancel,
        }
        self._started, self._live, self._slow_cancel = started, live, slow_cancel

    def started(self, key: Key) -> int:
        return self._started(key)

    def live(self, key: Key) -> int:
        return self._live(key)

    def requests(self, what: What | None = None) -> int:
        return self.vendor.total if what is None else self.vendor.count(*self._patterns[what])

    def fault(self, what: What, *steps: Step, repeat: bool = False) -> None:
        self.vendor.script(*self._patterns[what], *steps, repeat=repeat)

    def heal(self) -> None:
        self.vendor.clear()

    def slow_cancel(self, seconds: float) -> None:
        if self._slow_cancel is None:
            super().slow_cancel(seconds)
        else:
            self._slow_cancel(seconds)

"""Tokens that are kept, shared and renewed, with a clock that stands still."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from dataclasses import dataclass, field

import pytest
from tests.unit.kit_call import KitCall

from flyteagents import Call, Unauthenticated, Unavailable
from flyteagents.kit import tokens
from flyteagents.kit.tokens import Token, Tokens

CALL, FRESH = KitCall(), KitCall(fresh=True)
KEY = "-----a private key-----"


@dataclass
class Service:
    """Gives out tokens "1", "2", ... of `lifetime` seconds. Clear `open`, and it does not answer.
    With `fault` it fails."""

    lifetime: float = 3600.0
    given: int = 0
    asked: list[object] = field(default_factory=list)
    fault: Exception | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def obtain(self, source: object, call: Call) -> Token:
        self.asked.append(source)
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        self.given += 1
        return Token(f"token-{self.given}", time.time() + self.lifetime)


@dataclass(frozen=True)
class Source:
    key: str

    @property
    def identity(self) -> str:
        return self.key


class Clock:
    """Stands in for the module `time` of the tokens. `set_back`: seconds that the day's time is
    wrong by."""

    def __init__(self) -> None:
        self.now = time.time()
        self.set_back = 0.0

    def time(self) -> float:
        return self.now - self.set_back

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tokens, "time", clock)
    return clock


async def settled() -> None:
    """Let what runs in the background go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_request() -> None:
    service = Service()
    kept: Tokens[str, Token] = Tokens(service.obtain)
    service.open.clear()
    waiting = [asyncio.ensure_future(kept.get("me", CALL)) for _ in range(20)]
    await settled()
    service.open.set()
    found = await asyncio.gather(*waiting)
    assert {token.value for token in found} == {"token-1"}
    assert service.asked == ["me"]


async def test_who_gives_up_waiting_stops_nobody_else() -> None:
    service = Service()
    kept: Tokens[str, Token] = Tokens(service.obtain)
    service.open.clear()
    first, second = (asyncio.ensure_future(kept.get("me", CALL)) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    service.open.set()
    assert (await second).value == "token-1"


async def test_the_end_of_ones_time_is_not_the_end_of_those_who_wait_with_it() -> None:
    asked: list[Call] = []

    async def obtain(source: str, call: Call) -> Token:
        asked.append(call)
        await asyncio.sleep(0)
        if call.remaining <= 0:
            raise Unavailable("there was no time left")
        return Token("token", time.time() + 3600)

    kept: Tokens[str, Token] = Tokens(obtain)
    hasty, patient = KitCall(seconds=0.0), KitCall(seconds=5.0)
    waiting = [asyncio.ensure_future(kept.get("me", call)) for call in (hasty, *[patient] * 5)]
    first, *others = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, Unavailable)
    assert [getattr(each, "value", each) for each in others] == ["token"] * 5
    assert asked == [hasty, patient]


async def test_what_is_wrong_with_the_service_is_told_to_all_who_wait() -> None:
    service = Service(fault=Unavailable("down"))
    kept: Tokens[str, Token] = Tokens(service.obtain)
    told = await asyncio.gather(
        *(kept.get("me", KitCall()) for _ in range(5)), return_exceptions=True
    )
    assert [str(each) for each in told] == ["down"] * 5
    assert service.asked == ["me"]


async def test_each_identity_has_a_token_of_its_own() -> None:
    service = Service()
    kept: Tokens[Source, Token] = Tokens(service.obtain)
    mine, theirs = await kept.get(Source("a"), CALL), await kept.get(Source("b"), CALL)
    assert mine.value != theirs.value
    assert await kept.get(Source("a"), CALL) is mine


async def test_a_token_is_renewed_ahead_of_its_end_and_nobody_waits(clock: Clock) -> None:
    service = Service(lifetime=3600)
    kept: Tokens[str, Token] = Tokens(service.obtain)
    await kept.get("me", CALL)
    clock.now += 3600 - tokens.AHEAD + 1
    service.open.clear()
    for _ in range(10):
        assert (await kept.get("me", CALL)).value == "token-1"
    await settled()
    service.open.set()
    await settled()
    assert (await kept.get("me", CALL)).value == "token-2"
    assert len(service.asked) == 2


async def test_tokens_that_are_given_out_near_their_end_are_not_asked_for_all_the_time(
    clock: Clock,
) -> None:
    service = Service(lifetime=100)
    kept: Tokens[str, Token] = Tokens(service.obtain)
    for _ in range(5):
        await kept.get("me", CALL)
        await settled()
    assert service.given == 1
    clock.now += tokens.PAUSE + 1
    await kept.get("me", CALL)
    await settled()
    assert service.given == 2


async def test_a_token_that_is_still_good_serves_while_renewal_fails(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(lifetime=3600)
    kept: Tokens[str, Token] = Tokens(service.obtain)
    await kept.get("me", CALL)
    clock.now += 3600 - tokens.AHEAD + 1
    service.fault = Unavailable("the token service is away")
    with caplog.at_level(logging.WARNING, "flyteagents"):
        for _ in range(3):
            assert (await kept.get("me", CALL)).value == "token-1"
            await settled()
    assert caplog.text.count("the token service is away") == 1
    clock.now += tokens.AHEAD - tokens.END
    with pytest.raises(Unavailable):
        await kept.get("me", CALL)


async def test_a_token_that_is_about_to_end_is_not_used(clock: Clock) -> None:
    service = Service(lifetime=3600)
    kept: Tokens[str, Token] = Tokens(service.obtain)
    await kept.get("me", CALL)
    clock.now += 3600 - tokens.END + 1
    assert (await kept.get("me", CALL)).value == "token-2"


async def test_a_refused_token_is_replaced_once_for_all_that_are_under_way(clock: Clock) -> None:
    service = Service()
    kept: Tokens[str, Token] = Tokens(service.obtain)
    await kept.get("me", CALL)
    assert (await kept.get("me", FRESH)).value == "token-1"  # obtained just now
    clock.now += tokens.JUST_NOW + 1
    found = await asyncio.gather(*(kept.get("me", FRESH) for _ in range(20)))
    assert {token.value for token in found} == {"token-2"}
    assert (await kept.get("me", FRESH)).value == "token-2"


async def test_a_token_is_replaced_when_it_is_refused_though_the_clock_was_set_back(
    clock: Clock,
) -> None:
    """It has ended at its vendor, and by our clock it lasts."""
    kept: Tokens[str, Token] = Tokens(Service().obtain)
    await kept.get("me", CALL)
    clock.now += 3700
    clock.set_back = 3700
    assert (await kept.get("me", CALL)).value == "token-1"
    assert (await kept.get("me", FRESH)).value == "token-2"


async def test_what_obtaining_raises_is_raised_and_tried_again_by_the_next_call() -> None:
    service = Service(fault=Unauthenticated("no such client"))
    kept: Tokens[str, Token] = Tokens(service.obtain)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="no such client"):
            await kept.get("me", CALL)
    service.fault = None
    assert (await kept.get("me", CALL)).value == "token-1"


async def test_nothing_that_is_kept_has_a_key_or_a_token_in_its_text() -> None:
    service = Service()
    kept: Tokens[Source, Token] = Tokens(service.obtain)
    token = await kept.get(Source(KEY), CALL)
    service.asked.clear()
    gc.collect()
    shown = repr(vars(kept)) + repr(token)
    assert KEY not in shown
    assert token.value not in shown
    sources = [one for one in gc.get_objects() if isinstance(one, Source) and one.key == KEY]
    assert sources == []


async def test_only_so_many_identities_are_kept() -> None:
    service = Service()
    kept: Tokens[str, Token] = Tokens(service.obtain)
    first = await kept.get("0", CALL)
    for number in range(1, tokens.KEPT + 1):
        await kept.get(str(number), CALL)
    assert (await kept.get("0", CALL)).value != first.value


async def test_closing_ends_what_is_under_way() -> None:
    service = Service()
    kept: Tokens[str, Token] = Tokens(service.obtain)
    service.open.clear()
    waiting = asyncio.ensure_future(kept.get("me", CALL))
    await settled()
    kept.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_is_kept_of_an_identity_is_another_digest_in_each_process() -> None:
    service = Service()
    one: Tokens[str, Token] = Tokens(service.obtain)
    other: Tokens[str, Token] = Tokens(service.obtain)
    await one.get("me", CALL)
    await other.get("me", CALL)
    assert one._kept.keys().isdisjoint(other._kept.keys())

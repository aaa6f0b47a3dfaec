"""What is told while a job is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from flyteagents._cli import cancelling, screen
from flyteagents._cli.cancelling import Progress


async def test_why_it_takes_long_is_told_once_until_it_is_another_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    news = asyncio.Event()

    def aside(text: str, shade: str) -> None:
        told.append(text.split(" s  ")[1])
        news.set()

    async def until(number: int) -> None:
        while len(told) < number:
            news.clear()
            await asyncio.wait_for(news.wait(), 10)

    monkeypatch.setattr(cancelling, "_TOLD_AFTER", 0.001)
    monkeypatch.setattr(screen, "aside", aside)
    progress = Progress()

    async with progress.told():
        progress.doing, progress.why = "cancelling", "the vendor is away"
        await until(3)
        progress.why = "the vendor is busy"
        await until(6)
    assert told[:3] == ["cancelling: the vendor is away", "cancelling", "cancelling"]
    assert [line for line in told[3:] if line != "cancelling"] == ["cancelling: the vendor is busy"]

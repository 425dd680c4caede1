"""Events of a talk: what they are kept for, what they cut, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from backend.calls.talking.events import (
    Inbox,
    KeyPressed,
    KeysEnded,
    LikelyEnd,
    LineLost,
    LineRestored,
    SayRequest,
    cuts,
)
from backend.core.turns import BargeIn, SpeechResumed, SpeechStarted, TurnEnded

ENDED = TurnEnded("yes", 0.0, 300.0, 400.0, 300.0)


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    box = Inbox(lambda: 0.0, lambda key: False)
    yield box
    box.close()


@pytest.mark.parametrize("event", [SpeechStarted(0.0), SpeechResumed(), BargeIn(0.0)])
async def test_the_caller_is_quiet_until_they_speak_and_once_their_turn_is_over(
    inbox: Inbox, event: SpeechStarted | SpeechResumed | BargeIn
) -> None:
    assert inbox.caller_quiet.is_set()
    for told in (event, ENDED):
        inbox.put(told)
    assert await inbox.next() == event
    assert not inbox.caller_quiet.is_set()
    assert await inbox.next() == ENDED
    assert inbox.caller_quiet.is_set()


async def test_keys_requests_and_the_line_are_kept(inbox: Inbox) -> None:
    for told in (KeyPressed("4"), SayRequest("Listen.", interrupt=True), LineLost(), KeyPressed("2")):
        inbox.put(told)
    for _ in range(4):
        await inbox.next()
    assert [request.text for request in inbox.asides] == ["Listen."]
    assert not inbox.line_up
    assert inbox.take_keys() == "42"
    assert inbox.keys == ""
    inbox.put(LineRestored())
    await inbox.next()
    assert inbox.line_up


async def test_what_was_handed_back_comes_first(inbox: Inbox) -> None:
    inbox.put(LikelyEnd("no"))
    inbox.hand_back(ENDED)
    assert inbox.handed_back
    assert await inbox.next() == ENDED
    assert not inbox.handed_back
    assert await inbox.next() == LikelyEnd("no")


async def test_waiting_ends_in_time_or_with_what_is_waited_for_and_loses_nothing(inbox: Inbox) -> None:
    async def work() -> object:
        return None

    assert await inbox.next(0.0) is None
    assert await inbox.next(unless=asyncio.create_task(work())) is None
    inbox.put(ENDED)
    assert await inbox.next() == ENDED


async def test_what_nobody_could_have_meant_is_dropped(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(300):
        inbox.put(SayRequest("Again.", interrupt=False))
    while await inbox.next(0.0) is not None:
        pass
    assert len(inbox.asides) == 20
    assert "dropped" in caplog.text


async def test_the_pound_key_after_keys_that_were_acted_upon_is_no_key() -> None:
    clock = [1000.0]
    box = Inbox(lambda: clock[0], lambda key: False)
    box.put(KeyPressed("1"))
    assert await box.next() == KeyPressed("1")
    box.keys_acted_upon(box.take_keys())
    box.put(KeyPressed("#"))
    clock[0] += 60_000  # what counts is when it was pressed, not when it is taken
    assert await box.next() == KeysEnded()
    assert box.keys == ""
    box.put(KeyPressed("#"))
    assert await box.next() == KeyPressed("#")
    assert box.keys == "#"
    box.close()


def test_what_cuts_a_sentence() -> None:
    always = [LineLost(), SayRequest("Now.", interrupt=True)]
    if_we_may = [BargeIn(0.0), KeyPressed("1")]
    never = [ENDED, SpeechStarted(0.0), SayRequest("Later.", interrupt=False), LikelyEnd("no"), KeysEnded()]
    for may in (False, True):
        assert all(cuts(event, interruptible=may) for event in always)
        assert all(cuts(event, interruptible=may) is may for event in if_we_may)
        assert not any(cuts(event, interruptible=may) for event in never)

"""What a carrier tells by webhook becomes turns: late words, words in another order, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import HearingError
from backend.stt.telnyx import TelnyxTranscriber


class Line:
    """A carrier that listens, on a clock that is moved."""

    def __init__(self, *, refuses: bool | int = False, patience_s: float = 30.0, **options: Any) -> None:
        self.started = 0
        self.now_s = 100.0
        self._refuses = refuses
        self.ears = TelnyxTranscriber(self._start, patience_s=patience_s, clock=lambda: self.now_s, **options)

    async def _start(self) -> None:
        self.started += 1
        if self._refuses is True or self.started <= self._refuses:
            raise HearingError("no", route="telnyx", reason="unauthorized")

    async def turn(self) -> None:
        """The caller begins to speak, and has spoken for two seconds."""
        await self.ears.connect()
        self.ears.hear(bytes(320), begins=True)
        self.ears.hear(bytes(320), begins=False)
        self.now_s += 2.0

    async def ask(self) -> asyncio.Task[str]:
        task = asyncio.create_task(self.ears.transcribe(bytes(16_000)))
        await asyncio.sleep(0)
        return task


async def answer(task: asyncio.Task[str]) -> str:
    async with asyncio.timeout(5):
        return await task


async def pending(task: asyncio.Task[str]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return not task.done()


async def test_the_final_words_after_the_pause_are_the_turns() -> None:
    line = Line()
    await line.turn()
    line.ears.told("I would like", final=False)
    asking = await line.ask()
    line.ears.told("I would like a", final=False)
    assert await pending(asking)
    line.ears.told(" I would like  a table. ", final=True)
    assert await answer(asking) == "I would like a table."
    assert line.started == 1


async def test_final_words_told_just_before_the_pause_was_noticed_count() -> None:
    line = Line()
    await line.turn()
    line.ears.told("Yes.", final=True)
    line.now_s += 0.2
    assert await answer(await line.ask()) == "Yes."


async def test_final_words_of_the_middle_of_a_turn_are_not_all_of_it() -> None:
    line = Line()
    await line.turn()
    line.ears.told("My name is Ann.", final=True)
    line.now_s += 2.0
    asking = await line.ask()
    assert await pending(asking)
    line.ears.told("And I live in Kent.", final=True)
    assert await answer(asking) == "My name is Ann. And I live in Kent."


async def test_words_in_another_order_are_put_right() -> None:
    line = Line()
    await line.turn()
    line.now_s += 2.0
    asking = await line.ask()
    line.ears.told("for two.", final=True, at="2026-01-01T00:00:03Z")
    line.ears.told("A table", final=True, at="2026-01-01T00:00:01Z")
    line.ears.told("A tab", final=False, at="2026-01-01T00:00:00Z")
    assert await answer(asking) == "A table for two."


@pytest.mark.parametrize(
    "tell",
    [
        lambda ears: ears.told("a table for", final=False),
        lambda ears: (ears.told("a table", final=True), ears.told("for", final=False)),
    ],
)
async def test_words_that_never_become_final_will_do_in_the_end(tell: Callable[[Any], Any]) -> None:
    line = Line(patience_s=0.02)
    await line.turn()
    asking = await line.ask()
    tell(line.ears)
    line.now_s += 0.05
    assert await answer(asking) == "a table for"


async def test_without_a_word_it_waits_as_long_as_it_is_let() -> None:
    line = Line(patience_s=0.01)
    await line.turn()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await line.ears.transcribe(bytes(16_000))


async def test_words_of_the_turn_before_are_not_of_this_one() -> None:
    line = Line()
    await line.turn()
    line.ears.told("What was said", final=False)
    line.ears.hear(bytes(320), begins=True)
    line.now_s += 0.2
    line.ears.told("What was said before.", final=True)
    line.now_s += 1.0
    asking = await line.ask()
    assert await pending(asking)
    line.ears.told("No.", final=True)
    assert await answer(asking) == "No."


async def test_a_caller_who_goes_on_is_heard_from_the_beginning() -> None:
    line = Line()
    await line.turn()
    first = await line.ask()
    line.ears.told("A table", final=True)
    assert await answer(first) == "A table"
    line.now_s += 2.0
    again = await line.ask()
    line.ears.told("for two.", final=True)
    assert await answer(again) == "A table for two."


async def test_a_carrier_that_refuses_does_not_listen() -> None:
    line = Line(refuses=True)
    with pytest.raises(HearingError) as raised:
        await line.ears.connect()
    assert raised.value.reason == "unauthorized"
    with pytest.raises(HearingError) as raised:
        await line.ears.transcribe(bytes(16_000))
    assert raised.value.reason == "unauthorized"
    assert line.started == 2, "asked again"


async def test_closing_ends_the_wait() -> None:
    line = Line()
    await line.turn()
    asking = await line.ask()
    await line.ears.aclose()
    with pytest.raises(HearingError):
        await answer(asking)


async def test_a_sound_without_words_is_none_for_a_carrier_that_does_listen() -> None:
    line = Line(patience_s=0.01, silence_s=0.02)
    await line.turn()
    line.ears.told("Hello.", final=True)
    line.now_s += 1.0
    await line.turn()
    asking = await line.ask()
    line.now_s += 1.0
    assert await answer(asking) == ""


async def test_a_carrier_silent_twice_in_a_row_is_not_believed() -> None:
    line = Line(patience_s=0.01, silence_s=0.02)
    await line.turn()
    line.ears.told("Hello.", final=True)
    for expected in ("", "timeout"):
        await line.turn()
        asking = await line.ask()
        line.now_s += 5.0
        try:
            heard = await answer(asking)
        except HearingError as error:
            heard = error.reason
        assert heard == expected


async def test_a_webhook_that_was_held_up_does_not_speak_in_a_later_turn() -> None:
    line = Line()
    await line.turn()
    line.ears.told("My name is", final=False, at="2026-01-01T00:00:01.9Z")
    await line.turn()  # answered without the end of it
    line.ears.told("My name is Ann.", final=True, at="2026-01-01T00:00:02.1Z")
    asking = await line.ask()
    assert await pending(asking)
    line.ears.told("No.", final=True, at="2026-01-01T00:00:04.2Z")
    assert await answer(asking) == "No."


async def test_a_clock_of_the_carriers_that_was_wrong_once_does_not_deafen_for_long() -> None:
    line = Line()
    await line.turn()
    line.ears.told("Hello.", final=True, at="2026-01-01T01:00:00Z")  # an hour ahead of all others
    for second in range(20):
        line.now_s += 1.0
        line.ears.told("and", final=False, at=f"2026-01-01T00:00:{second:02}Z")
    await line.turn()
    asking = await line.ask()
    line.ears.told("My name is Ann.", final=True, at="2026-01-01T00:00:21Z")
    assert await answer(asking) == "My name is Ann."


async def test_the_same_words_told_twice_are_said_once() -> None:
    line = Line()
    await line.turn()
    asking = await line.ask()
    for _ in range(3):
        line.ears.told("A table.", final=True, at="2026-01-01T00:00:01Z")
    assert await answer(asking) == "A table."


async def test_a_carrier_that_refused_at_first_is_asked_again_with_the_next_words() -> None:
    line = Line(refuses=1)
    with pytest.raises(HearingError):
        await line.ears.connect()
    line.ears.hear(bytes(320), begins=True)
    with pytest.raises(HearingError) as raised:
        await line.ears.transcribe(bytes(16_000))
    assert raised.value.reason == "bad_request", "no other call goes without it for that"
    await line.turn()
    asking = await line.ask()
    line.ears.told("Hello again.", final=True)
    assert await answer(asking) == "Hello again."
    assert line.started == 2


async def test_words_said_while_the_carrier_is_still_being_asked_do_not_ask_it_twice() -> None:
    gate, started = asyncio.Event(), 0

    async def start() -> None:
        nonlocal started
        started += 1
        await gate.wait()

    ears = TelnyxTranscriber(start, patience_s=30.0)
    connecting = asyncio.create_task(ears.connect())
    ears.hear(bytes(320), begins=True)
    asking = asyncio.create_task(ears.transcribe(bytes(16_000)))
    assert await pending(asking)
    gate.set()
    await connecting
    with pytest.raises(HearingError):
        await answer(asking)
    assert started == 1


@pytest.mark.parametrize(("audio_ms", "heard"), [(500, "bad_request"), (2_000, "")])
async def test_where_others_hear_too_a_short_sound_is_theirs_and_nobody_is_blamed(
    audio_ms: int, heard: str
) -> None:
    line = Line(patience_s=0.01, silence_s=0.02, alone=False)
    await line.turn()
    line.ears.told("Hello.", final=True)
    await line.turn()
    asking = asyncio.create_task(line.ears.transcribe(bytes(16 * audio_ms)))
    await asyncio.sleep(0)
    line.now_s += 1.0
    try:
        answered = await answer(asking)
    except HearingError as error:
        answered = error.reason
    assert answered == heard

"""Who speaks when, where a language model plays the caller: a telephone and a model of this file's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec, Usage
from backend.errors import LlmError
from backend.evals.played import HangUp, Move, Press, Say, Wait
from backend.evals.played_call import PlayerError, play
from backend.evals.suite import PlayedBy

T = TypeVar("T")
GOAL = PlayedBy(goal="You want an appointment.", model="m", max_turns=4)


class Telephone:
    """Hears what is given, turn by turn; the call is over when nothing is left. `again`: after these turns
    the agent goes on speaking."""

    def __init__(self, *heard: str, again: Sequence[int] = ()) -> None:
        self._heard, self._again = list(heard), again
        self.patience_s: list[float] = []
        self.done: list[Move] = []

    async def listen(self, patience_s: float) -> str | None:
        self.patience_s.append(patience_s)
        if any(isinstance(move, HangUp) for move in self.done):
            return None
        return self._heard.pop(0) if self._heard else None

    async def spoken_meanwhile(self) -> bool:
        return len(self.patience_s) in self._again

    async def do(self, move: Move) -> None:
        self.done.append(move)

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        return await work


class Model:
    """Replies as given, over and over the last one."""

    def __init__(self, *replies: Sequence[LlmEvent]) -> None:
        self._replies = list(replies)
        self.asked: list[Sequence[Message]] = []

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        self.asked.append(messages)
        for event in self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]:
            yield event

    async def aclose(self) -> None:
        """Nothing to close."""


async def test_what_was_thought_of_is_dropped_when_the_agent_goes_on() -> None:
    phone = Telephone("Hello.", "How can I help you?", again=[1])
    model = Model([TextDelta("Hello?")], [TextDelta("An appointment, please.")])
    told = (await play(phone, GOAL, model))["played_by"]
    assert phone.done == [Say("An appointment, please.")]
    assert [message.text for message in model.asked[1][1:]] == ["Hello.", "How can I help you?"]
    assert (told["turns"], told["requests"], told["unfinished"]) == (2, 2, "")


async def test_a_caller_waits_as_long_as_they_said_and_then_hangs_up() -> None:
    phone = Telephone("One moment, please.", "")
    model = Model([ToolCall("a", "wait", '{"seconds": 20}')], [ToolCall("b", "hang_up", "")])
    await play(phone, GOAL, model)
    assert phone.done == [Wait(20.0), HangUp()]
    assert phone.patience_s[1] == 20.0


async def test_words_go_before_keys_whatever_their_order() -> None:
    phone = Telephone("Your number, please?")
    await play(phone, GOAL, Model([ToolCall("a", "press", '{"keys": "12"}'), TextDelta("Here it is.")]))
    assert phone.done == [Say("Here it is."), Press("12")]


@pytest.mark.parametrize(
    ("bounds", "usage", "reason"),
    [
        ({"max_turns": 2}, (), "after 2 turns of the caller (max_turns)"),
        ({"max_tokens": 250}, (Usage(100, 30, "m"),), "after 260 tokens of the caller (max_tokens)"),
    ],
)
async def test_beyond_its_bounds_the_caller_hangs_up(
    bounds: dict[str, int], usage: Sequence[LlmEvent], reason: str
) -> None:
    phone = Telephone(*["How can I help you?"] * 9)
    model = Model([TextDelta("I like trains."), *usage])
    told = (await play(phone, GOAL.model_copy(update=bounds), model))["played_by"]
    assert told["unfinished"].startswith(reason)
    assert phone.done == [Say("I like trains."), Say("I like trains."), HangUp()]


async def test_a_model_without_anything_to_do_has_failed() -> None:
    model = Model([ToolCall("a", "dance", "")])
    with pytest.raises(PlayerError, match="3 times it replied with nothing that a caller can do"):
        await play(Telephone("Hello."), GOAL, model)
    assert len(model.asked) == 3


async def test_a_model_that_breaks_is_no_fault_of_the_agent_s() -> None:
    class Broken(Model):
        async def reply(
            self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
        ) -> AsyncGenerator[LlmEvent]:
            raise LlmError("on fire", reason="server_error")
            yield TextDelta("")

    with pytest.raises(PlayerError, match="says nothing of the agent: on fire"):
        await play(Telephone("Hello."), GOAL, Broken([]))

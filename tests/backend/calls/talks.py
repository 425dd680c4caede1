"""A talk in memory: a real flow, a real speaker, a line that plays; caller, model and tools by script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from backend.calls.ports import LanguageModel
from backend.calls.speaking.speaker import Speaker
from backend.calls.talking.conversation import Conversation
from backend.calls.talking.events import Event
from backend.calls.talking.recorder import TurnRecorder
from backend.calls.talking.thinker import Thinker
from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec, Usage
from backend.core.records import TurnRecord
from backend.core.steps import Action
from backend.core.turns import Expects, SpeechStarted, TurnEnded
from backend.errors import LlmError
from tests.backend.calls.fakes import (
    Line,
    MemoryStore,
    Script,
    ScriptedRoute,
    agent,
    now_ms,
    tone,
    until,
    voice_of,
)

Reply = Sequence[str | ToolCall | Usage | asyncio.Event | Exception]


class ScriptedModel:
    """Answers each request with the next reply of its script: texts, tool calls, waits, failures."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[list[Message], list[ToolSpec]]] = []
        self.cancelled = 0

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        self.asked.append((list(messages), list(tools)))
        events = self.replies.pop(0) if self.replies else ()
        whole = False
        try:
            for event in events:
                if isinstance(event, asyncio.Event):
                    await event.wait()
                elif isinstance(event, Exception):
                    raise event
                elif isinstance(event, str):
                    yield TextDelta(event)
                else:
                    yield event
            whole = True
        finally:
            self.cancelled += not whole

    async def aclose(self) -> None:
        pass

    def user_texts(self, request: int = -1) -> list[str]:
        return [message.text for message in self.asked[request][0] if message.role == "user"]

    def tool_names(self, request: int = -1) -> list[str]:
        return [tool.name for tool in self.asked[request][1]]


class ScriptedTools:
    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self.result: str | Exception = "all well"
        self.gate = asyncio.Event()
        self.gate.set()
        self.holds_from = 0

    async def call(self, call: ToolCall) -> str:
        self.calls.append(call)
        if len(self.calls) == self.holds_from:
            self.gate.clear()
        await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Talk:
    """A conversation under way and everything a test asks of it."""

    def __init__(
        self,
        talker: Agent,
        route: ScriptedRoute,
        model: LanguageModel | None,
        tools: ScriptedTools,
        variables: dict[str, str],
    ) -> None:
        self.line, self.route, self.tools = Line(), route, tools
        self.voice = voice_of(route)
        self.speaker = Speaker(self.line.send, self.voice, codec=Codec.PCMU, clock=now_ms)
        self.line.on_mark = self.speaker.mark_returned
        self.turns: dict[int, TurnRecord] = {}
        self.acts: list[Action] = []
        self.expected: list[Expects] = []
        self.counted: list[str] = []
        self.problem: Callable[[Action], str | None] = lambda action: None
        recorder = TurnRecorder(MemoryStore(), "call")
        recorder.add = self._record  # type: ignore[method-assign]
        self._thinker = model and Thinker(
            talker, model, tools, count=lambda outcome, prompt, completion: self.counted.append(outcome)
        )
        self.flow = Flow(talker, variables, thinks=model is not None)
        self.conversation = Conversation(
            flow=self.flow,
            speaker=self.speaker,
            recorder=recorder,
            perform=self._perform,
            expect=self.expected.append,
            clock=now_ms,
            thinker=self._thinker,
        )
        self.result: asyncio.Task[str] = asyncio.create_task(self.conversation.run())

    def _record(self, turn: TurnRecord) -> None:
        assert turn.index not in self.turns, "an index given twice"
        self.turns[turn.index] = turn

    async def _perform(self, action: Action) -> str | None:
        self.acts.append(action)
        return self.problem(action)

    @property
    def thinker(self) -> Thinker:
        assert self._thinker is not None
        return self._thinker

    def tell(self, *events: Event) -> None:
        for event in events:
            self.conversation.notify(event)

    def words(self, text: str) -> None:
        """The caller says something now, heard as a whole turn."""
        at_ms = now_ms()
        self.tell(SpeechStarted(at_ms - 0.02), TurnEnded(text, at_ms - 0.02, at_ms - 0.01, at_ms, 300))

    async def asked(self, text: str) -> None:
        """Returns when the voice is asked for `text`."""
        await until(lambda: text in self.route.asked, f"{text!r} of {self.route.asked}")

    async def heard(self, text: str) -> None:
        """Returns when the agent has said a turn that ends with `text`."""
        await until(
            lambda: any(t.role == "agent" and t.heard_text.endswith(text) for t in self.turns.values()), text
        )

    async def heard_so_far(self, text: str) -> None:
        """Returns when the agent has said so much of a turn that goes on."""
        await until(lambda: self.speaker.heard_so_far.endswith(text), text)

    async def end(self) -> str:
        async with asyncio.timeout(10):
            return await self.result

    async def close(self) -> None:
        self.result.cancel()
        await asyncio.wait([self.result])
        if self._thinker is not None:
            await self._thinker.aclose()

    @property
    def said(self) -> list[tuple[str, str]]:
        assert sorted(self.turns) == list(range(len(self.turns))), "indices without gaps"
        return [(self.turns[index].role, self.turns[index].heard_text) for index in sorted(self.turns)]


@asynccontextmanager
async def talk(
    talker: Agent,
    route: ScriptedRoute | None = None,
    *,
    model: LanguageModel | None = None,
    tools: ScriptedTools | None = None,
    **variables: str,
) -> AsyncIterator[Talk]:
    under_way = Talk(talker, route or ScriptedRoute(), model, tools or ScriptedTools(), variables)
    sender = asyncio.create_task(under_way.speaker.run())
    try:
        async with asyncio.timeout(20):
            yield under_way
    finally:
        await under_way.close()
        sender.cancel()
        await asyncio.wait([sender])
        await under_way.voice.aclose()
        await under_way.line.close()


def node(id_: str, *say: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "say": list(say), **fields}


def to(target: str, **when: Any) -> dict[str, Any]:
    return {"to": target, "when": when or {"otherwise": True}}


def go(choice: str) -> ToolCall:
    return ToolCall("c1", "go_to", json.dumps({"choice": choice}))


BYE = node("bye", "Goodbye.", actions=[{"type": "hangup"}])
YES_NO = agent(
    node("ask", "Shall we?", transitions=[to("yes", keywords=["yes"]), to("bye", keywords=["no"])]),
    node("yes", "Very well.", transitions=[to("bye")]),
    BYE,
    greeting="Hello.",
)
LONG = "One two three four five six seven. Eight nine ten eleven twelve."


def long_ask(**fields: Any) -> Agent:
    first = node(
        "ask", LONG, transitions=[to("bye", keywords=["stop"]), to("bye", digits="[0-9]{2}")], **fields
    )
    return agent(first, BYE)


def slow_voice(text: str = "One two three four five six seven.", ms: float = 1500) -> ScriptedRoute:
    return ScriptedRoute({text: Script([tone(ms)])})


def quiet(**turns: Any) -> Agent:
    talker = agent(
        node("ask", "Shall we?", transitions=[to("bye", keywords=["yes"])]),
        BYE,
        turns=turns,
    )
    # Less patient than an agent's file may be, so that tests are quick.
    return talker.model_copy(update={"turns": talker.turns.model_copy(update={"idle_ms": 200})})


LLM = {"llm": {"provider": "openai", "model": "tester"}}
HOURS = {"name": "hours", "description": "Opening hours.", "url": "http://127.0.0.1/hours"}
HELP = agent(
    node(
        "help",
        prompt="Answer questions about opening hours.",
        transitions=[
            to("bye", keywords=["bye"]),
            to("book", intent="wants to book"),
            to("bye", intent="is done"),
        ],
        tools=["hours"],
    ),
    node("book", prompt="Find out the day.", transitions=[to("bye", keywords=["bye"])]),
    BYE,
    tools=[HOURS],
    **LLM,
)
HELLO = ["Hello, how can I help?"]
DOWN = LlmError("away", reason="unreachable")

"""One turn by the language model: its text as pieces to speak, its tool calls, and what came of it.

A request begins with the object, so that it can be made before the caller's turn is quite over. Does not
decide what an answer means for the call (the flow does), nor speak.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from backend.calls.ports import LanguageModel, Toolbox
from backend.calls.talking.fillers import Fillers, Waiting
from backend.calls.talking.llm_reply import LlmReply
from backend.core.agent import Agent, HttpTool
from backend.core.brain import Chose, Decision, Filled, Refused, UseTool, judge, tool_specs
from backend.core.llm import Message, TextDelta, ToolCall
from backend.core.sentences import PieceStream
from backend.core.speech import Piece
from backend.core.steps import Ask
from backend.errors import LlmError, ToolError

log = logging.getLogger(__name__)

MAX_ROUNDS = 4  # requests a turn: three times tools, then an answer
_MAX_CALLS = 4  # tool calls a request; a model that makes more is lost
_TOOL_S = 65.0  # as above; an agent's tool has at most 60 s
_MOST_SPOKEN = 2_000  # characters of a turn, two minutes of speech: a model that writes on is cut off there
_MOST_WRITTEN = 20_000  # of one request, be it nothing to say: signs, markup
_GIVEN_UP = "The caller spoke before it answered. It may have been done all the same."


@dataclass(frozen=True, slots=True)
class Used:
    """A tool was used with success, and there is a way on for that."""

    name: str


Outcome = Chose | Filled | Used
Spent = dict[tuple[str, str], str]
"""Results of tools, by name and arguments, that must not be used once more."""


class LlmTurn:
    """Iterate `pieces` once, or not at all; `aclose` it in any case. Then see what it tells."""

    def __init__(
        self,
        agent: Agent,
        ask: Ask,
        messages: Sequence[Message],
        model: LanguageModel,
        toolbox: Toolbox | None,
        *,
        on_tools: Callable[[Sequence[ToolCall], Sequence[str]], None],
        spent: Spent | None = None,
    ) -> None:
        """`on_tools` is told of tool calls that were carried out, with their results. `spent`: those carried
        out before, for words that this turn answers, too; it is added to."""
        self.ask = ask
        self.spent: Spent = {} if spent is None else spent
        self.outcome: Outcome | None = None
        self.kept: dict[str, str] = {}
        """What the node collects, as far as it was found and does not end the task; by name."""
        self.problem: LlmError | None = None
        self.spoken = False
        """Whether it gave words of its own to say."""
        self.broke_off = False
        """Whether it used tools and then came to no answer: what it said before was only the beginning."""
        self.bridged: str | None = None
        """What was said because its answer did not come; no words of its own."""
        self.requests = 0
        self.usage = (0, 0)
        """Tokens: prompt, completion; where the server does not tell them, reckoned from the lengths."""
        self._agent, self._model, self._toolbox, self._on_tools = agent, model, toolbox, on_tools
        self._messages = list(messages)
        self._specs = tool_specs(agent, ask)
        self._text = ""
        self._script = PieceStream(agent.language)
        self._reply = self._request()

    @property
    def untouched(self) -> bool:
        """Whether nothing has come of it yet: asked once more it does no harm."""
        return not (self.spoken or self.broke_off)

    @property
    def only_spoke(self) -> bool:
        """Whether it has used no tool, so that asked once more it does nothing twice."""
        return self.requests == 1 and not self.broke_off

    async def aclose(self) -> None:
        """Cancel what is under way."""
        await self._reply.aclose()
        self._count(self._reply)

    def unsaid(self) -> str:
        """What the model wrote and nobody has taken out of `pieces`, as far as it is whole sentences."""
        if self.ask.task is None:
            return ""
        left = [piece for text in self._reply.left() for piece in self._script.push(text)]
        return " ".join(piece.text for piece in left)

    async def pieces(self, waiting: Waiting | None = None) -> AsyncGenerator[Piece]:
        """What to speak, as soon as it is certain. Raises nothing of the model's: see `problem`."""
        fillers = Fillers(self._agent.language, waiting or Waiting())
        begun_s = asyncio.get_running_loop().time()
        try:
            characters = 0
            for _ in range(MAX_ROUNDS):
                calls: list[ToolCall] = []
                self._text, self._script = "", PieceStream(self._agent.language)
                async with aclosing(self._bridge(fillers, begun_s)) as meanwhile:
                    async for piece in meanwhile:
                        yield piece
                async for event in self._reply.events():
                    if isinstance(event, ToolCall):
                        calls.append(event)
                    elif isinstance(event, TextDelta):
                        self._text += event.text
                        for piece in self._script.push(event.text) if self.ask.task is not None else ():
                            self.spoken, self.broke_off = True, False
                            characters += len(piece.text)
                            yield piece
                            if self._talks_on(characters):
                                return
                    if self._talks_on(characters, len(self._text)):
                        return
                for piece in self._script.finish() if self.ask.task is not None else ():
                    self.spoken, self.broke_off = True, False
                    characters += len(piece.text)
                    yield piece
                    if self._talks_on(characters):
                        return
                if not calls:
                    return
                self.broke_off = True
                if self.spoken:
                    fillers.spoke()
                async with aclosing(self._carry_out(calls[:_MAX_CALLS], fillers)) as meanwhile:
                    async for piece in meanwhile:
                        yield piece
                if self.outcome is not None:
                    return
                self._reply = self._request()
            log.warning("the language model calls tools without end at node %s", self.ask.node_id)
        except LlmError as error:
            # That a model is left alone was said once, for all calls.
            level = logging.DEBUG if error.reason == "left_alone" else logging.WARNING
            log.log(level, "language model (%s): %s", error.reason, error)
            self.problem = error
        finally:
            await self.aclose()

    async def _bridge(self, fillers: Fillers, begun_s: float) -> AsyncGenerator[Piece]:
        """A word to the caller, once a turn, when nothing has come of a reply for long."""
        text, after_ms = self._agent.llm.bridge(self._agent.language), self._agent.llm.filler_ms
        if text is None or after_ms is None or not fillers.silent or self._reply.has_begun:
            return
        after_s = begun_s + after_ms / 1000 - asyncio.get_running_loop().time()
        coming = asyncio.create_task(self._reply.begun(), name="first word")
        try:
            async with aclosing(fillers.bridge(coming, [text], first_after_s=after_s)) as bridge:
                async for piece in bridge:
                    self.bridged = text
                    yield piece
        finally:
            coming.cancel()

    def _talks_on(self, characters: int, written: int = 0) -> bool:
        """Whether it has said, or written, more than anybody listens to."""
        if characters <= _MOST_SPOKEN and written <= _MOST_WRITTEN:
            return False
        log.warning("the language model talks without end at node %s", self.ask.node_id)
        return True

    # --- requests --------------------------------------------------------------------------------------

    def _request(self) -> LlmReply:
        if self.requests:
            self._count(self._reply)
        self.requests += 1
        return LlmReply(self._model.reply(tuple(self._messages), self._specs))

    def _count(self, reply: LlmReply) -> None:
        prompt, completion = reply.take_usage(sum(len(message.text) for message in self._messages))
        self.usage = self.usage[0] + prompt, self.usage[1] + completion

    # --- tools -----------------------------------------------------------------------------------------

    async def _carry_out(self, calls: list[ToolCall], fillers: Fillers) -> AsyncGenerator[Piece]:
        """Carry them out in order, up to one that leads elsewhere; gives what to say meanwhile."""
        results: list[str] = []
        used: list[tuple[ToolCall, str]] = []
        try:
            for call in calls:
                decision = judge(self.ask, call)
                same = call.name, _plain(call.arguments)
                if isinstance(decision, UseTool) and same in self.spent:
                    results.append(self.spent[same])  # a model that stutters must not book twice
                elif isinstance(decision, UseTool):
                    used.append((call, _GIVEN_UP))
                    if not self._may_repeat(call.name):
                        self.spent[same] = _GIVEN_UP
                    work = asyncio.create_task(self._use(call), name=f"tool {call.name}")
                    try:
                        async with aclosing(fillers.bridge(work, self._fillers(call.name))) as bridge:
                            async for piece in bridge:
                                yield piece
                        result, well = await work
                    finally:
                        work.cancel()
                    used[-1] = call, result
                    results.append(result)
                    self.spent.pop(same, None)
                    if well:
                        self.spent[same] = result
                    if well and call.name in self.ask.leaving_tools:
                        self.outcome = Used(call.name)
                else:
                    results.append(self._decide(decision))
                if self.outcome is not None:
                    break
        finally:
            # Also when the caller speaks meanwhile: a model that does not know what it did, does it again.
            if used:
                self._on_tools([call for call, _ in used], [result for _, result in used])
        answered = tuple(calls[: len(results)])
        self._messages.append(Message("assistant", self._text, tool_calls=answered))
        for call, result in zip(answered, results, strict=True):
            self._messages.append(Message("tool", result, tool_call_id=call.id))

    def _decide(self, decision: Decision) -> str:
        """The result of a call that is no tool of the agent's."""
        match decision:
            case Chose():
                self.outcome = decision
                return "done"
            case Filled(values):
                all_values = {**self.kept, **values}
                if self.ask.is_ended_by(all_values):
                    self.outcome = Filled(all_values)
                else:
                    self.kept = all_values
                return self._still_missing(all_values)
            case Refused(sentence):
                log.info(
                    "a call of the language model's is refused at node %s: %s", self.ask.node_id, sentence
                )
                return sentence
            case UseTool():
                raise AssertionError("tools are used elsewhere")

    def _still_missing(self, values: Mapping[str, str]) -> str:
        missing = [name for name in self.ask.missing if name not in values]
        return f"kept; still to find out: {', '.join(missing)}" if missing else "kept"

    async def _use(self, call: ToolCall) -> tuple[str, bool]:
        """Its result, and whether it went well."""
        if self._toolbox is None:
            return "Tools cannot be used now.", False
        try:
            async with asyncio.timeout(_TOOL_S):
                result = await self._toolbox.call(call)
        except ToolError as error:
            log.warning("tool %s: %s", call.name, error)
            return str(error), False
        except TimeoutError:
            return f"The tool {call.name} did not answer in time.", False
        except Exception as error:
            # A bug of ours must not cost the caller the call. Its words may hold a key: they are not logged.
            log.error("tool %s: internal error, %s", call.name, type(error).__name__)
            return f"The tool {call.name} failed.", False
        log.info("tool %s was used at node %s", call.name, self.ask.node_id)
        return result, True

    def _fillers(self, name: str) -> tuple[str, ...]:
        tool = self._tool(name)
        return tool.fillers(self._agent.language) if tool is not None else ()

    def _may_repeat(self, name: str) -> bool:
        """Whether a tool that was given up may be used again: it only looks something up."""
        tool = self._tool(name)
        return tool is not None and tool.method == "GET"

    def _tool(self, name: str) -> HttpTool | None:
        return next((tool for tool in self._agent.tools if tool.name == name), None)


def _plain(arguments: str) -> str:
    """Arguments as they compare: however the model set its blanks."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments

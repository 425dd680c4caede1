"""Language models and tools for calls whose time leaps: while one answers, time passes as for everybody.

Tells of each tool call. Knows nothing of vendors: what it wraps is given.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from backend.calls.ports import LanguageModel, Toolbox
from backend.core.llm import LlmEvent, Message, ToolCall, ToolSpec
from backend.errors import ToolError
from backend.evals.leaping import outside


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool was called: with what, what came of it, how long it took."""

    name: str
    arguments: str
    result: str
    failed: bool
    took_ms: float

    @property
    def line(self) -> str:
        """As one line to read."""
        try:
            given = ", ".join(f"{name}={value!r}" for name, value in json.loads(self.arguments).items())
        except (ValueError, AttributeError):
            given = self.arguments
        sign = "✗" if self.failed else "→"
        return f"{self.name}({given}) {sign} {self.result[:200]}"


class WaitedModel:
    """A language model, waited for."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        """The model's own events. Raises LlmError."""
        with outside():
            async with aclosing(self._model.reply(messages, tools)) as events:
                async for event in events:
                    yield event

    async def aclose(self) -> None:
        """Close the model."""
        await self._model.aclose()


class WatchedToolbox:
    """Tools, waited for and told of."""

    def __init__(
        self,
        tools: Toolbox,
        told: Callable[[ToolUse], None],
        begins: Callable[[], None] = lambda: None,
    ) -> None:
        """`begins` is told before each use, `told` after it."""
        self._tools, self._told, self._begins = tools, told, begins

    async def call(self, call: ToolCall) -> str:
        """The tool's own result. Raises ToolError."""
        began_s = time.monotonic()
        failed = True
        result = ""
        self._begins()
        try:
            with outside():
                result = await self._tools.call(call)
            failed = False
        except ToolError as error:
            result = str(error)
            raise
        finally:
            took_ms = (time.monotonic() - began_s) * 1000
            self._told(ToolUse(call.name, call.arguments, result, failed, took_ms))
        return result

"""One request to a language model, read ahead of the voice. Knows nothing of what the answer is for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from backend.core.llm import LlmEvent, TextDelta, ToolCall, Usage
from backend.errors import LlmError

log = logging.getLogger(__name__)

_EVENT_S = 150.0  # nothing for so long: the adapter's own deadlines, a minute for each of two, are shorter
_MAX_EVENTS = 4_096  # read ahead of the voice; beyond it the server is made to wait


class LlmReply:
    """The request begins with the object; `aclose` it in any case."""

    def __init__(self, stream: AsyncGenerator[LlmEvent]) -> None:
        self._events: asyncio.Queue[LlmEvent | LlmError | None] = asyncio.Queue(_MAX_EVENTS)
        self._stream = stream
        self._usage: Usage | None = None
        self._characters = 0
        self._counted = False
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._read(), name="language model")

    @property
    def has_begun(self) -> bool:
        """Whether anything has come of it, be it its end or failure."""
        return self._begun.is_set()

    async def begun(self) -> None:
        """Returns once anything has come of it."""
        await self._begun.wait()

    async def events(self) -> AsyncGenerator[TextDelta | ToolCall]:
        """Its text and tool calls. Raises LlmError."""
        while True:
            try:
                async with asyncio.timeout(_EVENT_S):
                    event = await self._events.get()
            except TimeoutError as error:
                raise LlmError("the language model fell silent", reason="timeout") from error
            if event is None:
                return
            if isinstance(event, LlmError):
                raise event
            if not isinstance(event, Usage):
                yield event

    def left(self) -> list[str]:
        """The text that is there and was not asked for."""
        texts = []
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, TextDelta):
                texts.append(event.text)
        return texts

    def take_usage(self, asked_characters: int) -> tuple[int, int]:
        """What it cost, told once."""
        if self._counted:
            return 0, 0
        self._counted = True
        if self._usage is not None:
            return self._usage.prompt_tokens, self._usage.completion_tokens
        return asked_characters // 4, self._characters // 4

    async def aclose(self) -> None:
        """Cancel it. Returns once the request is let go of."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            async with aclosing(self._stream) as stream:
                async for event in stream:
                    if isinstance(event, Usage):
                        self._usage = event
                    elif isinstance(event, TextDelta):
                        self._characters += len(event.text)
                    else:
                        self._characters += len(event.arguments)
                    self._begun.set()
                    await self._events.put(event)
            await self._events.put(None)
        except LlmError as error:
            self._counted = self._counted or error.reason == "left_alone"  # nobody was asked
            await self._events.put(error)
        except Exception as error:
            # An adapter's bug must not cost the caller the call.
            log.exception("the language model's adapter failed")
            await self._events.put(LlmError(f"internal error: {error!r}", reason="protocol"))
        finally:
            self._begun.set()

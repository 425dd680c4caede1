"""Chunks of a streamed chat completion → events: text as it comes, tool calls put together, usage at last.

Lenient where servers differ, strict where a call would go wrong. Refuses to know of sockets and deadlines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

from backend.core.llm import LlmEvent, TextDelta, ToolCall, Usage
from backend.errors import LlmError

_MAX_ARGUMENTS = 1 << 16
_MAX_CALLS = 32


@dataclass(slots=True)
class _Unfinished:
    index: int | None
    id: str
    name: str
    fragments: list[str] = field(default_factory=list)
    size: int = 0


class ReplyReader:
    """One reply. `push` every chunk, then `end` once."""

    def __init__(self, model: str) -> None:
        """`model`: what was asked for; the server may name itself more exactly."""
        self._model = model
        self._calls: list[_Unfinished] = []
        self._given_calls = 0
        self._usage: Usage | None = None
        self.alive = False
        """Whether the model has begun to answer, be it only with a part of a tool call."""
        self.given = False
        """Whether there has been any event but usage."""
        self.finished_for: str | None = None
        """Why the server ended the reply (`stop`, `tool_calls`, `length` …); None while it has not."""

    def push(self, chunk: ChatCompletionChunk) -> Iterator[LlmEvent]:
        """The events this chunk completes. Raises LlmError (`protocol`)."""
        # The SDK checks no types: whatever a server sends may stand in any field.
        if isinstance(chunk.model, str) and chunk.model:
            self._model = chunk.model
        self._note_usage(chunk)
        for choice in (chunk.choices or [])[:1]:
            if isinstance(choice.delta, ChoiceDelta):
                yield from self._delta(choice.delta)
            if choice.finish_reason:
                yield from self._calls_until(len(self._calls))
                self.finished_for = str(choice.finish_reason)

    def end(self) -> Iterator[LlmEvent]:
        """Usage, when the server told it. Raises LlmError when the reply is not whole."""
        if self.finished_for is None:
            raise LlmError("the reply ended in the middle", reason="unreachable")
        if not self.given:
            raise _empty(self.finished_for)
        if self._usage is not None:
            yield self._usage

    def _delta(self, delta: ChoiceDelta) -> Iterator[LlmEvent]:
        for text in (delta.content, delta.refusal):  # a refusal is said, too
            if isinstance(text, str) and text:
                self.alive = self.given = True
                yield TextDelta(_whole(text))
        for fragment in delta.tool_calls or ():
            self._add(fragment)
            yield from self._calls_until(len(self._calls) - 1)

    def _add(self, fragment: ChoiceDeltaToolCall) -> None:
        self.alive = True
        told = fragment.function
        name = str((told.name if told else None) or "")
        arguments = (told.arguments if told else None) or ""
        call = self._call_of(fragment)
        call.name = call.name or name
        # Some servers send the arguments as an object instead of text of one: that cannot be put together.
        if not isinstance(arguments, str):
            raise LlmError("a tool call's arguments are not text", reason="protocol")
        if arguments:
            call.fragments.append(arguments)
            call.size += len(arguments)
        if call.size > _MAX_ARGUMENTS or len(self._calls) > _MAX_CALLS:
            raise LlmError("a tool call without end", reason="protocol")

    def _call_of(self, fragment: ChoiceDeltaToolCall) -> _Unfinished:
        last = self._calls[-1] if self._calls else None
        # Not every server counts `index`; a new id is a new call whatever the index says.
        if last is None or (fragment.index != last.index) or (fragment.id and fragment.id != last.id):
            self._calls.append(
                _Unfinished(fragment.index, fragment.id or f"call_{len(self._calls)}", name="")
            )
        return self._calls[-1]

    def _calls_until(self, count: int) -> Iterator[LlmEvent]:
        while self._given_calls < count:
            call = self._calls[self._given_calls]
            if not call.name:
                raise LlmError("a tool call names no tool", reason="protocol")
            self._given_calls += 1
            self.given = True
            yield ToolCall(call.id, call.name, "".join(call.fragments))

    def _note_usage(self, chunk: ChatCompletionChunk) -> None:
        counts = [getattr(chunk.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        if all(isinstance(count, int) for count in counts):
            self._usage = Usage(int(counts[0] or 0), int(counts[1] or 0), self._model)


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold, and neither a request nor the database."""
    return text.encode(errors="replace").decode()


def _empty(finished_for: str) -> LlmError:
    if finished_for == "content_filter":
        return LlmError("the server's content filter kept the reply back", reason="bad_request")
    if finished_for == "length":
        return LlmError("max_tokens was used up before the first word", reason="bad_request")
    return LlmError("the reply is empty", reason="protocol")

"""A language model behind OpenAI's chat interface, whoever's server it is, by the official SDK.

One fallback, tried once and only while nothing has been said. What is known to fail is not asked (its gate
says so). Knows nothing of calls and agents.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from openai import (
    APIConnectionError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    BadRequestError,
    OpenAIError,
    UnprocessableEntityError,
    omit,
)
from openai.types.chat import ChatCompletionChunk

from backend.core.llm import LlmEvent, Message, ToolSpec
from backend.errors import LlmError
from backend.llm.gate import Attempt, Gate, OpenGate
from backend.llm.refusals import llm_error
from backend.llm.reply import ReplyReader

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_KEPT_OPEN_S = 60.0  # from one turn of a caller to the next
_MAX_CONNECTIONS = 1_000
_CONNECT_S = 3.0
_LET_GO_S = 1.0
_FIRST_WORD_S, _FIRST_WORD_BEFORE_FALLBACK_S = 4.0, 2.5
_PAUSE_S = 4.0  # in the middle of a reply: what a caller takes for a dead line
_USAGE_S = 0.5  # for what it cost, once the reply itself is whole
_OPENAI = "api.openai.com"
# What the SDK lets through besides its own errors, where a server sends what is no chat completion.
_FAILURES = (
    OpenAIError,
    httpx2.HTTPError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    LlmError,
)


def make_http_client() -> httpx2.AsyncClient:
    """A client for all the models of a process. Its requests are bounded by those who make them.

    It takes no proxy from the environment, and carries no key to another host by a redirect.
    """
    limits = httpx2.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=_KEPT_OPEN_S)
    return httpx2.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)


class OpenAiModel:
    """One model and, where named, its fallback. Replies may overlap. A given `http` stays open."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str,
        *,
        fallback_model: str | None = None,
        fallback_base_url: str | None = None,
        fallback_api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        first_token_timeout_s: float | None = None,
        timeout_s: float = 30.0,
        pause_s: float = _PAUSE_S,
        http: httpx2.AsyncClient | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        """`base_url` ends before `/chat/completions`, usually in `/v1`.

        With `fallback_base_url` alone, the same model is asked for there, with `fallback_api_key`; with
        `fallback_model` alone, `base_url` and `api_key` serve it, too. `first_token_timeout_s` holds for each
        of the two; left out: 4 s, or 2.5 s for one whose fallback can be asked. `timeout_s` is all the time a
        reply may be waited for, without that of who reads it. In the middle it may pause for `pause_s`, or
        `first_token_timeout_s` if that is longer. `gates`: of the model and its fallback; without, each is
        asked whatever became of it before.
        """
        self._http, self._given = http or make_http_client(), http is not None
        self._first_token_s, self._timeout_s = first_token_timeout_s, timeout_s
        self._pause_s = max(pause_s, first_token_timeout_s or 0.0)
        self._temperature, self._max_tokens = temperature, max_tokens
        asked = [(base_url, api_key, model)]
        if fallback_base_url is not None:
            asked.append((fallback_base_url, fallback_api_key, fallback_model or model))
        elif fallback_model is not None:
            asked.append((base_url, api_key, fallback_model))
        gates = gates or [OpenGate() for _ in asked]
        self._servers = [_Server(*whose, self._http, gate) for whose, gate in zip(asked, gates, strict=True)]

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        """The answer as it is made. Closing it early ends the request.

        Raises LlmError; `left_alone`, at once, when no gate allows to ask.
        """
        patience = _Patience(self._timeout_s, self._pause_s)
        failure: LlmError | None = None
        for number, server in enumerate(self._servers):
            if not server.gate.allows():
                failure = failure or LlmError(f"{server.named}: left alone for now", reason="left_alone")
                continue
            others = any(other.gate.allows() for other in self._servers[number + 1 :])
            patience.first_word_within(self._first_word_s(fallback=others))
            given = False
            try:
                async with aclosing(self._attempt(server, messages, tools, patience)) as events:
                    async for event in events:
                        given = True
                        yield event
                return
            except LlmError as error:
                if given:
                    raise
                failure = error
                if others:
                    log.warning("%s; its fallback is asked", error)
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        if not self._given:
            try:
                async with asyncio.timeout(_LET_GO_S):
                    await self._http.aclose()
            except TimeoutError:
                log.debug("connections to the language model not closed politely")

    def _first_word_s(self, *, fallback: bool) -> float:
        if self._first_token_s is not None:
            return self._first_token_s
        return _FIRST_WORD_BEFORE_FALLBACK_S if fallback else _FIRST_WORD_S

    async def _attempt(
        self, server: _Server, messages: Sequence[Message], tools: Sequence[ToolSpec], patience: _Patience
    ) -> AsyncGenerator[LlmEvent]:
        clock_s = asyncio.get_running_loop().time
        reader = ReplyReader(server.model)
        attempt = Attempt(server.gate, clock_s())
        stream: AsyncStream[ChatCompletionChunk] | None = None
        try:
            stream = await patience.wait(server.open(self._body(server, messages, tools)))
            while (chunk := await self._next(stream, reader, patience)) is not None:
                for event in reader.push(chunk):
                    attempt.answered(clock_s())
                    yield event
                if reader.alive:
                    attempt.answered(clock_s())
                    patience.word_came()
            for event in reader.end():
                yield event
        except _FAILURES as error:
            failure = llm_error(error, server.named, server.secrets)
            if reader.finished_for is not None:
                attempt.answered(clock_s())  # with nothing to say, but it did answer
            elif failure.reason != "timeout" or patience.was_fair:
                attempt.failed(failure, clock_s())
            # Its own chain holds the server's words unredacted: it goes into no log.
            raise failure from None
        finally:
            attempt.over()
            if stream is not None:
                await _close(stream)

    async def _next(
        self, stream: AsyncStream[ChatCompletionChunk], reader: ReplyReader, patience: _Patience
    ) -> ChatCompletionChunk | None:
        if reader.finished_for is None:
            return await patience.wait(anext(stream, None))
        try:
            async with asyncio.timeout(_USAGE_S):
                return await anext(stream, None)
        except (TimeoutError, *_FAILURES) as error:
            # The reply is whole: nobody is told that the connection did not end well.
            log.debug("no end of the stream after the reply: %s", type(error).__name__)
            return None

    def _body(
        self, server: _Server, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": server.model, "messages": [_message(item) for item in messages]}
        if tools:
            body["tools"] = [_tool(item) for item in tools]
        if self._temperature is not None:
            body["temperature"] = self._temperature
        if self._max_tokens is not None:
            # OpenAI's newer models refuse the old name; other servers may not know the new one.
            body["max_completion_tokens" if server.is_openai else "max_tokens"] = self._max_tokens
        return body


class _Server:
    """One model at one address."""

    def __init__(
        self, base_url: str, api_key: str | None, model: str, http: httpx2.AsyncClient, gate: Gate
    ) -> None:
        self.gate = gate
        host = urlsplit(base_url).hostname or base_url
        self.model, self.is_openai = model, host == _OPENAI
        self.named = f"language model {model} at {host}"
        self.secrets = (api_key,) if api_key else ()
        self._headers = {} if api_key else {"Authorization": omit}
        self._tells_usage = True
        client = AsyncOpenAI(
            # The SDK would look for a key in the environment, and that one may not be for this server.
            api_key=api_key or _no_key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=_CONNECT_S, write=_CONNECT_S, pool=_CONNECT_S),
            http_client=http,
        )
        # Likewise from the environment.
        client.organization = client.project = None
        # The SDK imports this on first use: now, and not while a caller waits.
        self._completions = client.chat.completions

    async def open(self, body: dict[str, Any]) -> AsyncStream[ChatCompletionChunk]:
        """The stream of a reply. A connection that is lost before any answer is tried a second time."""
        try:
            return await self._ask(body)
        except APITimeoutError:
            raise
        except APIConnectionError:
            # Most often one kept open, which the server has just closed.
            return await self._ask(body)

    async def _ask(self, body: dict[str, Any]) -> AsyncStream[ChatCompletionChunk]:
        if self._tells_usage:
            try:
                return await self._create({**body, "stream_options": {"include_usage": True}})
            except (BadRequestError, UnprocessableEntityError) as error:
                if "stream_options" not in str(error):
                    raise
                self._tells_usage = False  # an older server, which refuses what it does not know
        return await self._create(body)

    async def _create(self, body: dict[str, Any]) -> AsyncStream[ChatCompletionChunk]:
        stream: AsyncStream[ChatCompletionChunk] = await self._completions.create(
            **body, stream=True, extra_headers=self._headers
        )
        return stream


class _Patience:
    """How long a server may still be waited for; the time of who reads the reply does not count."""

    def __init__(self, total_s: float, pause_s: float) -> None:
        self._total_s = self._left_s = total_s
        self._pause_s = pause_s
        self._next_left_s = total_s
        self._overdue, self._begun = "", False
        self.was_fair = True
        """Whether the one who is waited for has, or had, as long as it is meant to. Whoever is cut off while
        it speaks has not."""

    def first_word_within(self, first_s: float) -> None:
        # A fallback is not to blame for the time that the first one used up.
        self.was_fair = self._left_s >= min(first_s, self._total_s)
        self._next_left_s, self._overdue = first_s, f"no first word within {first_s:g} s"

    def word_came(self) -> None:
        self._next_left_s, self._overdue = self._pause_s, f"it fell silent for {self._pause_s:g} s"
        self._begun = True

    async def wait(self, awaited: Awaitable[_T]) -> _T:
        """Raises LlmError (`timeout`)."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(min(self._left_s, self._next_left_s)):
                return await awaited
        except TimeoutError:
            whole = f"the reply was not whole within {self._total_s:g} s"
            is_silent = self._next_left_s < self._left_s
            what = self._overdue if is_silent else whole
            self.was_fair = self.was_fair and (is_silent or not self._begun)
            raise LlmError(what, reason="timeout") from None
        finally:
            waited_s = loop.time() - began_s
            self._left_s = max(0.0, self._left_s - waited_s)
            self._next_left_s = max(0.0, self._next_left_s - waited_s)


async def _no_key() -> str:
    return ""


async def _close(stream: AsyncStream[ChatCompletionChunk]) -> None:
    try:
        async with asyncio.timeout(_LET_GO_S):
            await stream.close()
    except (TimeoutError, OSError, httpx2.HTTPError) as error:
        log.debug("reply not closed politely: %s", type(error).__name__)


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        told["content"] = message.text or None
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _arguments(text: str) -> str:
    # Many servers parse what their model wrote before, and fail on what is no object. That it was none,
    # the tool's answer says.
    try:
        return text if isinstance(json.loads(text), dict) else "{}"
    except ValueError:
        return "{}"


def _tool(tool: ToolSpec) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, **tool.parameters}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}

"""`python -m backend.simulator.llm`: an OpenAI-compatible language model that answers by a script.

`/v1/chat/completions`, streamed or whole, and `/v1/models`. It keeps every request and how it ended:
`GET /sim/requests`. Understands nothing; `backend.simulator.llm_script` says what it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import secrets
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backend import __version__
from backend.errors import ConfigError
from backend.simulator.llm_script import (
    Answer,
    Heard,
    LlmRules,
    LlmScript,
    Refusal,
    Step,
    read_llm_script,
)

Outcome = Literal["open", "finished", "refused", "cut", "cancelled"]
_KEPT = 1000


@dataclass(slots=True)
class Asked:
    """A request as it came, and how it ended; `cancelled`: the client went away before the end."""

    number: int
    body: dict[str, Any]
    authorized_by: str | None
    """The Authorization header."""
    rule: int | None = None
    outcome: Outcome = "open"
    said: str = ""
    """What was sent of the text."""
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages") or ())

    @property
    def tools(self) -> list[str]:
        return list(Heard.of(self.body).offered)

    def end(self, outcome: Outcome) -> None:
        """Only the first call counts."""
        if self.outcome == "open":
            self.outcome = outcome
            self.ended.set()


class LlmStandIn:
    """The stand-in as an ASGI application (`app`), and what it was asked (`asked`, the last 1000)."""

    def __init__(self, script: LlmScript | None = None) -> None:
        self.asked: list[Asked] = []
        self._came = asyncio.Event()
        self.use(script or LlmScript())
        self._numbers = itertools.count()
        self.app = FastAPI(title="Language model stand-in")
        self.app.post("/v1/chat/completions", response_model=None)(self._complete)
        self.app.get("/v1/models")(self._models)
        self.app.get("/sim/requests")(self._requests)

    def use(self, script: LlmScript) -> None:
        """Answer by this script from now on."""
        self.script, self._rules = script, LlmRules(script)

    async def request(self, number: int) -> Asked:
        """The request of that number, from 0, once it has come."""
        while True:
            found = next((item for item in self.asked if item.number == number), None)
            if found is not None:
                return found
            self._came.clear()
            await self._came.wait()

    async def _complete(self, request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            return _refused(Refusal(status=400, message="a JSON object with `messages` is needed"))
        asked = Asked(next(self._numbers), body, request.headers.get("authorization"))
        del self.asked[: -_KEPT + 1]
        self.asked.append(asked)
        self._came.set()
        key = self.script.api_key
        if key is not None and not secrets.compare_digest(
            (asked.authorized_by or "").encode(), f"Bearer {key}".encode()
        ):
            asked.end("refused")
            return _refused(
                Refusal(
                    status=401,
                    code="invalid_api_key",
                    message=f"Incorrect API key provided: {asked.authorized_by}.",
                )
            )
        return _Played(asked, self._rules.answer(Heard.of(body)), self.script)

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "stand-in"}]}

    async def _requests(self) -> list[dict[str, Any]]:
        return [_told(item) for item in self.asked]


class _Played(Response):
    """Plays an answer, and watches whether anybody still listens: Starlette's own response only notices
    when it sends again."""

    def __init__(self, asked: Asked, answer: Answer, script: LlmScript) -> None:
        super().__init__()
        self._asked, self._answer, self._script = asked, answer, script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._asked.rule = self._answer.rule
        playing = asyncio.create_task(self._play(scope, receive, send))
        watching = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((playing, watching), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                self._asked.end("cancelled")
        finally:
            for task in (playing, watching):
                task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await asyncio.gather(playing, watching)
            self._asked.end("cancelled")

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._answer.after_ms / 1000)
        if self._answer.refuse is not None:
            self._asked.end("refused")
            await _refused(self._answer.refuse)(scope, receive, send)
        elif self._asked.body.get("stream"):
            await self._stream(send)
        else:
            await self._whole(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._events()) as events:
            async for event in events:
                if event is None:  # cut: the body never ends, and the server closes the connection
                    self._asked.end("cut")
                    return
                data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
                body = f"data: {data}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        self._asked.end("finished")

    async def _events(self) -> AsyncGenerator[dict[str, Any] | str | None]:
        """Chunks; text: an event's data as it stands; None: cut."""
        yield self._chunk({"role": "assistant", "content": ""})
        await asyncio.sleep(self._script.first_ms / 1000)
        calls = itertools.count()
        for step in self._answer.steps:
            if step.wait_ms is not None:
                await asyncio.sleep(step.wait_ms / 1000)
            elif step.stall:
                await asyncio.Event().wait()
            elif step.cut:
                yield None
                return
            elif step.malformed:
                yield '{"id": "chatcmpl-1", "choices": [{"delta'
            elif step.error is not None:
                yield _error(step.error)
                return
            else:
                for delta in _deltas(step, calls):
                    await asyncio.sleep((step.pace_ms or self._script.pace_ms) / 1000)
                    self._asked.said += str(delta.get("content") or "")
                    yield self._chunk(delta)
        yield self._chunk({}, finish=self._finish())
        options = self._asked.body.get("stream_options") or {}
        if self._script.tells_usage and options.get("include_usage"):
            yield {**self._chunk({}), "choices": [], "usage": self._usage()}

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls: list[dict[str, Any]] = []
        async for event in self._events():
            if not isinstance(event, dict) or "error" in event:
                self._asked.end("refused")
                await _refused(Refusal(message="this script's reply can only be streamed"))(
                    scope, receive, send
                )
                return
            for choice in event["choices"]:
                for call in choice["delta"].get("tool_calls") or ():
                    if "id" in call:
                        calls.append(call)
                    else:
                        calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        message: dict[str, Any] = {"role": "assistant", "content": self._asked.said or None}
        if calls:
            message["tool_calls"] = [
                {name: call[name] for name in ("id", "type", "function")} for call in calls
            ]
        reply = {
            **self._chunk({}),
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish()}],
            "usage": self._usage(),
        }
        self._asked.end("finished")
        await JSONResponse(reply)(scope, receive, send)

    def _finish(self) -> str:
        called = any(step.call is not None for step in self._answer.steps)
        return self._answer.finish or ("tool_calls" if called else "stop")

    def _usage(self) -> dict[str, int]:
        """One token a word."""
        prompt = sum(len(str(item.get("content") or "").split()) for item in self._asked.messages)
        completion = len(self._asked.said.split())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._asked.number}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": str(self._asked.body.get("model") or "scripted"),
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }


def _deltas(step: Step, calls: Iterator[int]) -> Iterator[dict[str, Any]]:
    if step.say is not None:
        words = step.say.split(" ")
        for at, word in enumerate(words):
            yield {"content": word if at == len(words) - 1 else f"{word} "}
        return
    index = next(calls)
    arguments = step.arguments if isinstance(step.arguments, str) else json.dumps(step.arguments)
    start = {"index": index, "id": f"call_{index}", "type": "function"}
    yield {"tool_calls": [{**start, "function": {"name": step.call, "arguments": ""}}]}
    size = max(1, -(-len(arguments) // step.fragments))
    for at in range(0, len(arguments), size):
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + size]}}]}


def _error(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"message": refusal.message, "type": refusal.type, "param": None, "code": refusal.code}}


def _refused(refusal: Refusal) -> JSONResponse:
    return JSONResponse(_error(refusal), status_code=refusal.status)


def _told(asked: Asked) -> dict[str, Any]:
    # Who may see this may see the key, too: it is the stand-in's own. Still, reports are passed on.
    return {
        "number": asked.number,
        "outcome": asked.outcome,
        "rule": asked.rule,
        "said": asked.said,
        "authorized": asked.authorized_by is not None,
        "body": asked.body,
    }


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def server_config(app: FastAPI, *, log_level: str = "critical") -> uvicorn.Config:
    """How it is served. A reply cut off on purpose is an error to uvicorn: that is why it logs so little."""
    return uvicorn.Config(app, log_level=log_level, access_log=False, timeout_graceful_shutdown=1)


@asynccontextmanager
async def running(stand_in: LlmStandIn, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve it in this process; gives its base URL, such as http://127.0.0.1:8400/v1."""
    with _listener(host, port) as listener:
        server = uvicorn.Server(server_config(stand_in.app))
        # It shares the process with whoever runs it: interrupts are theirs.
        server.capture_signals = contextmanager(lambda: iter([None]))  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve(sockets=[listener]))  # connections wait until it does
        try:
            yield f"http://{host}:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


def _listener(host: str, port: int) -> socket.socket:
    # asyncio sends without delay only where the protocol is named; else a word waits 40 ms for the last
    # one's acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. → exit status: 0, or 2 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        script = read_llm_script(options.script) if options.script else LlmScript()
    except ConfigError as error:
        print(f"llm: {error}", file=sys.stderr)
        return 2
    try:
        listener = _listener(options.host, options.port)
    except OSError as error:
        print(f"llm: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 2
    with listener:
        host, port = listener.getsockname()[:2]
        print(f"OPENAI_BASE_URL=http://{host}:{port}/v1", flush=True)
        print(f"OPENAI_API_KEY={script.api_key or ''}", flush=True)
        with suppress(KeyboardInterrupt):
            config = server_config(LlmStandIn(script).app, log_level=options.log_level)
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend.simulator.llm", description=__doc__)
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8400, help="0: any free one (default: %(default)s)")
    parser.add_argument("--script", type=Path, help="JSON of rules; without it, it says what it heard")
    levels = ("debug", "info", "warning", "error", "critical")
    parser.add_argument("--log-level", default="critical", choices=levels)
    return parser


if __name__ == "__main__":
    sys.exit(main())

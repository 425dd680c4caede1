"""A server that tells every key it is given back, in every place that an answer has."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from websockets.utils import accept_key

Answer = Callable[[str, str], bytes]
"""The request's head, and the keys in it in one line → what is sent."""


def _http(status: str, kind: str, body: str, *more: str) -> bytes:
    data = body.encode()
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(data)}", *more]
    return "\r\n".join([*head, "connection: close", "", ""]).encode() + data


def _error(status: str) -> Answer:
    def answer(head: str, keys: str) -> bytes:
        said = f"Not with {keys}!"
        detail = {"status": "refused", "message": said}
        body = {"error": {"message": said, "type": said, "code": "x"}, "message": said, "detail": detail}
        return _http(f"{status} No", "application/json", json.dumps(body))

    return answer


def _socket(head: str, *frames: bytes) -> bytes:
    asked = next(line for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
    accept = accept_key(asked.partition(":")[2].strip())
    return (
        f"HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}"
        "\r\n\r\n"
    ).encode() + b"".join(frames)


def _frame(kind: int, data: bytes) -> bytes:
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return bytes([0x80 | kind]) + size + data


def _text(**message: object) -> bytes:
    return _frame(1, json.dumps(message).encode())


def _closing(reason: str) -> bytes:
    return _frame(8, (1008).to_bytes(2, "big") + reason.encode()[:120])


def _base64(keys: str) -> str:
    return base64.b64encode(keys.split()[-1].encode()).decode()


def _location(keys: str) -> str:
    return f"location: http://127.0.0.1:9/{keys.split()[-1]}"


def _completion(line: str) -> str:
    return f"data: {line}\n\n"


_HTTP: dict[str, Answer] = {
    **{f"HTTP {status}": _error(status) for status in ("400", "401", "402", "404", "422", "429", "500")},
    "plain text": lambda head, keys: _http("500 No", "text/plain", head),
    "a page": lambda head, keys: _http("200 OK", "text/html", f"<h1>{keys}</h1>"),
    "an encoded key": lambda head, keys: _http(
        "400 No", "application/json", json.dumps({"detail": _base64(keys)})
    ),
    "the reason": lambda head, keys: _http(f"500 {keys}", "text/plain", ""),
    "a redirect": lambda head, keys: _http("302 There", "text/plain", "", _location(keys)),
    "broken JSON": lambda head, keys: _http("200 OK", "application/json", keys),
    "other JSON": lambda head, keys: _http("200 OK", "application/json", json.dumps({"said": keys})),
    "a content type": lambda head, keys: _http("200 OK", f"audio/{keys.split()[-1]}", "x"),
    "no HTTP": lambda head, keys: f"{keys}\r\n\r\n".encode(),
    "no header": lambda head, keys: f"HTTP/1.1 200 OK\r\n{keys} {{}}\r\n\r\n".encode(),
    "an event": lambda head, keys: _http(
        "200 OK", "text/event-stream", _completion(json.dumps({"error": {"message": keys, "type": "x"}}))
    ),
    "a broken event": lambda head, keys: _http("200 OK", "text/event-stream", _completion(keys)),
    "an odd event": lambda head, keys: _http(
        "200 OK", "text/event-stream", _completion(json.dumps({"choices": keys, "model": keys}))
    ),
}  # fmt: skip
_SOCKET: dict[str, Answer] = {
    "an accept": lambda head, keys: (
        "HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"sec-websocket-accept: {keys}\r\n\r\n"
    ).encode(),
    "an upgrade": lambda head, keys: f"HTTP/1.1 101 Yes\r\nupgrade: {keys}\r\n\r\n".encode(),
    "a close": lambda head, keys: _socket(head, _closing(keys)),
    "a message": lambda head, keys: _socket(head, _text(message_type="auth_error", error=keys, message=keys)),
    "another message": lambda head, keys: _socket(
        head, _text(type="error", error=keys, message=keys, code=keys, message_type=f"{keys}_error")
    ),
    "no JSON": lambda head, keys: _socket(head, _frame(1, keys.encode())),
    "no frame": lambda head, keys: _socket(head, b"\xff" + keys.encode()),
}  # fmt: skip
ANSWERS = {**_HTTP, **_SOCKET}
HTTP_ANSWERS, SOCKET_ANSWERS = tuple(_HTTP), tuple(ANSWERS)


class Parrot:
    """Answers as `answer` says, or each time in another way; `heads`: what it was asked."""

    def __init__(self, *, in_turn: bool = False) -> None:
        self.url = ""
        self._turns = itertools.cycle(ANSWERS) if in_turn else None
        self.answer = "HTTP 401"
        self.heads: list[str] = []
        self.open: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection; those that are open are waited for at the end."""
        task = asyncio.create_task(self.serve(reader, writer))
        self.open.add(task)
        task.add_done_callback(self.open.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            lines = [line.partition(":") for line in head.splitlines()]
            found = [
                value.strip() for name, _, value in lines if name.lower() in ("authorization", "xi-api-key")
            ]
            answer = next(self._turns) if self._turns is not None else self.answer
            if answer in _SOCKET and "upgrade: websocket" not in head.lower():
                answer = "HTTP 401"
            writer.write(ANSWERS[answer](head, " ".join(found) or "nothing"))
            await writer.drain()
            # It reads on a moment: who is cut off while sending does not see the answer.
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while await reader.read(65_536):
                        pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def parrot(*, in_turn: bool = False) -> AsyncIterator[Parrot]:
    """One that listens."""
    it = Parrot(in_turn=in_turn)
    server = await asyncio.start_server(it.take, "127.0.0.1", 0, limit=1 << 20)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        if it.open:
            await asyncio.wait(it.open)
        await server.wait_closed()

"""Speech servers on real sockets that fail in one chosen way, after speaking real words.

    async with faulty("elevenlabs", Fault("close", after_chunks=2)) as server:
        route = ElevenLabsWebSocket(server.url, …)      # any client of that service
        …
        assert server.requests[0].text == "Hello there."
        assert server.requests[0].chunks_sent == 2

    async with healthy("sesame_ws", pace=3) as server: …    # the same, without a fault

Services, by the name of the route that talks to them, and what `server.url` then is:
    "sesame_ws"        ws://…/ws/generate     our speech server's WebSocket
    "sesame_rest"      http://…/generate      the same by REST: a streamed WAV
    "sesame_fallback"  http://…/generate      a foreign server that only knows base64 in JSON
    "sesame_hosted"    http://…/models/voice  a hosted inference API
    "elevenlabs"       http://…               the vendor's base URL: multi-context WebSocket
    "elevenlabs_rest"  http://…               the vendor's base URL: streamed HTTP
Sound is the embedded voice's, the same every time, made once per text and process; it comes in chunks of
200 ms (Sesame's first: 80 ms), so `chunk_count(service, text)` tells how many `k` there are to fail after.
Looks that make no sound are answered, too: /health, /v1/user/subscription, /v1/voices/{id}.
`pace` is the speed of speaking as a multiple of real time; None: all at once.

Faults (`Fault(kind, …)`; "after_chunks" is the sound sent before it strikes; beyond the end it strikes in
place of the end):
    "refuse"       nobody listens at the address
    "silence"      TCP is accepted; nothing is ever said, not even to the handshake
    "tls"          TLS with a certificate nobody trusts; the URL is https/wss
    "http"         every request or upgrade is answered with `status` (401, 429, 500, …); `code` is the
                   machine's word in ElevenLabs' body (default: what it says for that status)
    "close"        [after_chunks] the connection is closed, in good order where there is one
    "reset"        [after_chunks] the connection is reset
    "stall"        [after_chunks] no more comes; the connection stays open and answers pings
    "half_closed"  [after_chunks] the server shuts down its sending side without a close frame, and goes on
                   reading without ever closing
    "slow"         sound comes at `speed` × real time (0.8)
    "no_audio"     all in good order, but for the sound: zero bytes, then done
    "early"        [after_chunks] all in good order, but for the rest of the sound: done
    "error"        [after_chunks] an error frame with `code`; over HTTP: an error in JSON with status 200, or,
                   when sound was sent already, a body cut off
    "malformed"    [after_chunks] not what was agreed: no JSON, no WAV, a broken HTTP chunk
    "odd"          [after_chunks] half a sample, or what is no base64
    "constant"     all in good order, but the sound is one constant value
    "noise"        all in good order, but the sound is loud noise
It strikes requests number `from_request` (1 is the first of this server) to `until_request` (None: for
ever); others are spoken well. That holds for what happens after a request; "refuse", "silence", "tls" and
"http" hold for the whole server. `server.fault = …` changes the fault of requests to come.
"""

from __future__ import annotations

import asyncio
import audioop
import base64
import json
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, Literal, get_args

import numpy as np
import soxr
import trustme
import websockets
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from backend.simulator.elevenlabs_voice import RATE_HZ, Speech, VendorVoice

Service = Literal[
    "sesame_ws", "sesame_rest", "sesame_fallback", "sesame_hosted", "elevenlabs", "elevenlabs_rest"
]
SERVICES: tuple[Service, ...] = get_args(Service)
Kind = Literal[
    "none", "refuse", "silence", "tls", "http", "close", "reset", "stall", "half_closed", "slow", "no_audio",
    "early", "error", "malformed", "odd", "constant", "noise",
]  # fmt: skip
_STRIKES_LATER = frozenset({"close", "reset", "stall", "half_closed", "early", "error", "malformed", "odd"})
_PATHS: dict[Service, str] = {
    "sesame_ws": "/ws/generate",
    "sesame_rest": "/generate",
    "sesame_fallback": "/generate",
    "sesame_hosted": "/models/voice",
    "elevenlabs": "",
    "elevenlabs_rest": "",
}
_CHUNK_MS, _FIRST_SESAME_CHUNK_MS = 200, 80
_ELEVENLABS_CODES = {401: "invalid_api_key", 429: "too_many_concurrent_requests", 500: "internal_error"}
_WAV_HEADER = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, b"data", 0xFFFFFFFF,
)  # fmt: skip

_HEALTH = {
    "status": "healthy", "device": "cpu", "cuda": False, "model_loaded": True,
    "endpoints": {"websocket": "/ws/generate", "rest": "/generate"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong; see the module's docstring."""

    kind: Kind
    after_chunks: int = 0
    status: int = 500
    code: str | None = None
    speed: float = 0.8
    from_request: int = 1
    until_request: int | None = None

    def strikes(self, number: int) -> bool:
        """Whether request `number`, from 1, is struck."""
        return self.from_request <= number and (self.until_request is None or number <= self.until_request)

    def __str__(self) -> str:
        detail = {"http": f"-{self.status}", **dict.fromkeys(_STRIKES_LATER, f"-{self.after_chunks}")}
        return self.kind + detail.get(self.kind, "")


HEALTHY = Fault("none")


@dataclass(slots=True)
class Asked:
    """A request as the server saw it. `ended`: "done", "cancelled" by the client, or the fault's kind."""

    text: str
    body: dict[str, Any]
    headers: dict[str, str]  # names in lower case
    chunks_sent: int = 0
    ended: str | None = None


@dataclass(slots=True, eq=False)
class FaultyServer:
    """A running server."""

    service: Service
    fault: Fault
    pace: float | None
    url: str = ""
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0  # ever accepted; 0 where "refuse" and "tls" let none through
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[FaultyServer], bool], timeout_s: float = 10) -> None:
        """Returns when the condition holds; it is looked at whenever something was asked, sent or ended."""
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def note(self) -> None:
        """Something changed."""
        self._changed.set()

    def ask(self, text: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[Asked, Fault]:
        """A request has come: its record, and what is to go wrong with it."""
        asked = Asked(text, body, headers)
        self.requests.append(asked)
        self.note()
        return asked, self.fault if self.fault.strikes(len(self.requests)) else HEALTHY


@asynccontextmanager
async def faulty(service: Service, fault: Fault, *, pace: float | None = None) -> AsyncIterator[FaultyServer]:
    """A server of that kind on a free port, for as long as the block lasts. See the module's docstring."""
    server = FaultyServer(service, fault, pace)
    async with AsyncExitStack() as stack:
        port = await _start(server, stack)
        secure = "s" if fault.kind == "tls" else ""
        scheme = "ws" if service == "sesame_ws" else "http"
        server.url = f"{scheme}{secure}://127.0.0.1:{port}{_PATHS[service]}"
        yield server


@asynccontextmanager
async def healthy(service: Service, *, pace: float | None = None) -> AsyncIterator[FaultyServer]:
    """A server of that kind which works."""
    async with faulty(service, HEALTHY, pace=pace) as server:
        yield server


def speech(text: str) -> Speech:
    """What the servers say for `text`: sound at 24 kHz and when each character begins."""
    return _spoken(text)


def chunk_count(service: Service, text: str) -> int:
    """How many chunks of sound a healthy server of that kind sends for `text`."""
    return len(_cuts(service, _spoken(text)))


@cache
def _voice() -> VendorVoice:
    return VendorVoice()


@cache
def _spoken(text: str) -> Speech:
    return _voice().say_now(text)


# --- listening -----------------------------------------------------------------------------------------


async def _start(server: FaultyServer, stack: AsyncExitStack) -> int:
    """→ the port."""
    kind = server.fault.kind
    tls = _self_signed() if kind == "tls" else None
    if kind == "refuse":
        # Bound but not listening: refused, and nobody else can get the port meanwhile.
        return stack.enter_context(_bound_socket()).getsockname()[1]
    if kind == "silence":
        return await _start_tcp(stack, lambda reader, writer: _be_silent(server, reader, writer), None)
    if server.service in ("sesame_ws", "elevenlabs"):
        handler = _sesame_ws if server.service == "sesame_ws" else _elevenlabs_ws
        listening = await stack.enter_async_context(
            serve(
                lambda connection: handler(server, connection),
                "127.0.0.1",
                0,
                ssl=tls,
                compression=None,
                process_request=lambda connection, request: _refused(server, connection, request),
                close_timeout=0.2,
                ping_interval=None,
            )
        )
        return listening.sockets[0].getsockname()[1]
    return await _start_tcp(stack, lambda reader, writer: _http(server, reader, writer), tls)


def _bound_socket() -> Any:
    import socket

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def _start_tcp(stack: AsyncExitStack, handler: Any, tls: ssl.SSLContext | None) -> int:
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_handled(handler, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def stop() -> None:
        listening.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    stack.push_async_callback(stop)
    port: int = listening.sockets[0].getsockname()[1]
    return port


async def _handled(handler: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await handler(reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        pass  # the client went away
    finally:
        writer.transport.abort()


async def _be_silent(
    server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    server.connections += 1
    server.note()
    while await reader.read(65536):
        pass


@cache
def _self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def _refused(server: FaultyServer, connection: ServerConnection, request: Request) -> Response | None:
    server.connections += 1
    server.note()
    if server.fault.kind != "http":
        if request.path == "/health":
            return connection.respond(HTTPStatus.OK, json.dumps(_HEALTH))
        return None
    return connection.respond(HTTPStatus(server.fault.status), json.dumps(_http_error(server)) + "\n")


def _http_error(server: FaultyServer) -> dict[str, Any]:
    fault = server.fault
    if server.service.startswith("elevenlabs"):
        code = fault.code or _ELEVENLABS_CODES.get(fault.status, "error")
        return {"detail": {"type": "error", "code": code, "status": code, "message": f"Refused: {code}."}}
    code = fault.code or {401: "unauthorized", 429: "busy"}.get(fault.status, "generation_failed")
    return {"success": False, "error": code, "message": "refused"}


# --- what is said, and when it stops --------------------------------------------------------------------


class _Outlet:
    """Where one request's sound goes. Each method sends at once."""

    async def sound(self, pcm16: bytes, from_ms: float, spoken: Speech) -> None:
        raise NotImplementedError

    async def done(self) -> None:
        raise NotImplementedError

    async def strike(self, fault: Fault) -> None:
        """close, reset, half_closed, error, malformed, odd."""
        raise NotImplementedError


def _cuts(service: Service, spoken: Speech) -> list[tuple[float, bytes]]:
    """(start in ms, PCM) of every chunk."""
    bytes_per_ms = 2 * RATE_HZ // 1000
    size = (_FIRST_SESAME_CHUNK_MS if service == "sesame_ws" else _CHUNK_MS) * bytes_per_ms
    cuts, at = [], 0
    while at < len(spoken.pcm16):
        cuts.append((at / bytes_per_ms, spoken.pcm16[at : at + size]))
        at += size
        size = _CHUNK_MS * bytes_per_ms
    return cuts


async def _perform(server: FaultyServer, asked: Asked, fault: Fault, outlet: _Outlet) -> None:
    """Speak a request until it is done or struck. Cancelled where the client takes it back."""
    spoken = _disguised(await asyncio.to_thread(_spoken, asked.text), fault)
    cuts = [] if fault.kind == "no_audio" else _cuts(server.service, spoken)
    struck = fault.kind in _STRIKES_LATER
    pace = fault.speed if fault.kind == "slow" else server.pace
    began = asyncio.get_running_loop().time()
    try:
        for from_ms, pcm16 in cuts[: fault.after_chunks] if struck else cuts:
            if pace is not None:
                made_s = (from_ms + len(pcm16) * 500 / RATE_HZ) / pace / 1000
                await asyncio.sleep(began + made_s - asyncio.get_running_loop().time())
            await outlet.sound(pcm16, from_ms, spoken)
            asked.chunks_sent += 1
            server.note()
        asked.ended = fault.kind if struck else "done"
        if fault.kind == "stall":
            server.note()
            await asyncio.Event().wait()
        await (outlet.strike(fault) if struck and fault.kind != "early" else outlet.done())
    except asyncio.CancelledError:
        asked.ended = asked.ended or "cancelled"
        raise
    finally:
        asked.ended = asked.ended or "cancelled"  # the client was gone while we spoke
        server.note()


def _disguised(spoken: Speech, fault: Fault) -> Speech:
    if fault.kind not in ("constant", "noise"):
        return spoken
    samples = np.full(len(spoken.pcm16) // 2, 1234, "<i2")
    if fault.kind == "noise":
        samples = np.random.default_rng(4).integers(-20_000, 20_000, len(samples)).astype("<i2")
    return Speech(spoken.text, samples.tobytes(), spoken.starts_ms)


def _ulaw(pcm16_24k: bytes) -> bytes:
    samples = np.frombuffer(pcm16_24k, "<i2").astype(np.float32) / 32768
    at_8k = soxr.resample(samples, RATE_HZ, 8000)
    return audioop.lin2ulaw(np.rint(np.clip(at_8k, -1, 1) * 32767).astype("<i2").tobytes(), 2)


# --- WebSockets ----------------------------------------------------------------------------------------


class _WsOutlet(_Outlet):
    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    async def say(self, **fields: Any) -> None:
        await self.connection.send(json.dumps(fields))

    async def strike(self, fault: Fault) -> None:
        match fault.kind:
            case "close":
                await self.connection.close(1011)
            case "reset":
                self.connection.transport.abort()
            case "half_closed":
                self.connection.transport.write_eof()
                # websockets would close once it saw the client's answer; a half-closed peer does not.
                await asyncio.Event().wait()
            case "error":
                await self.error(fault)
            case "malformed":
                await self.connection.send("<html>Bad gateway</html>")
            case "odd":
                await self.odd()

    async def error(self, fault: Fault) -> None:
        raise NotImplementedError

    async def odd(self) -> None:
        raise NotImplementedError


class _SesameOutlet(_WsOutlet):
    def __init__(self, connection: ServerConnection, request_id: str) -> None:
        super().__init__(connection)
        self.request_id = request_id
        self._sent_ms = 0.0

    async def sound(self, pcm16: bytes, from_ms: float, spoken: Speech) -> None:
        self._sent_ms = from_ms + len(pcm16) * 500 / RATE_HZ
        await self.connection.send(pcm16)

    async def done(self) -> None:
        await self.say(
            done=True, request_id=self.request_id, reason="eos", audio_ms=round(self._sent_ms),
            first_audio_ms=1, generate_ms=1,
        )  # fmt: skip

    async def error(self, fault: Fault) -> None:
        code = fault.code or "generation_failed"
        await self.say(error=code, message="the model failed", request_id=self.request_id)

    async def odd(self) -> None:
        await self.connection.send(b"\x01\x02\x03")


async def _sesame_ws(server: FaultyServer, connection: ServerConnection) -> None:
    """One request at a time, as the contract has it; `cancel` is obeyed, but not by a stalled server."""
    headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
    running: asyncio.Task[None] | None = None
    running_id = ""
    waiting: asyncio.Queue[tuple[dict[str, Any], str]] = asyncio.Queue()

    async def speak_all() -> None:
        nonlocal running_id
        while True:
            message, running_id = await waiting.get()
            asked, fault = server.ask(message["text"], message, headers)
            await _perform(server, asked, fault, _SesameOutlet(connection, running_id))

    with suppress(websockets.ConnectionClosed):
        async for raw in connection:
            message = json.loads(raw)
            if "cancel" not in message:
                waiting.put_nowait((message, message.get("request_id", "")))
                if running is None or running.done():
                    running = _watched(speak_all())
            elif running is not None and not _is_stalled(server):
                running.cancel()
                running = None
                await connection.send(
                    json.dumps({"done": True, "reason": "cancelled", "request_id": running_id})
                )
    await _cancelled(running)


def _is_stalled(server: FaultyServer) -> bool:
    return bool(server.requests) and server.requests[-1].ended == "stall"


class _ElevenLabsOutlet(_WsOutlet):
    def __init__(self, connection: ServerConnection, context_id: str) -> None:
        super().__init__(connection)
        self.context_id = context_id

    async def sound(self, pcm16: bytes, from_ms: float, spoken: Speech) -> None:
        last = from_ms + len(pcm16) * 500 / RATE_HZ
        until_ms = last if last < spoken.duration_ms else float("inf")
        await self.say(
            audio=base64.b64encode(_ulaw(pcm16)).decode(),
            isFinal=None,
            alignment=spoken.alignment(from_ms, until_ms),
            normalizedAlignment=None,
            contextId=self.context_id,
        )

    async def done(self) -> None:
        """Nothing: `isFinal` answers the closing of the context."""

    async def error(self, fault: Fault) -> None:
        code = fault.code or "internal_error"
        await self.say(message=f"Something went wrong: {code}.", error=code, code=1008)
        await self.connection.close(1008, code)

    async def odd(self) -> None:
        await self.say(audio="=not*base64", contextId=self.context_id)


@dataclass(slots=True, eq=False)
class _Context:
    text: str = ""
    task: asyncio.Task[None] | None = None
    first: dict[str, Any] = field(default_factory=dict)


async def _elevenlabs_ws(server: FaultyServer, connection: ServerConnection) -> None:
    """Contexts side by side; a flush speaks what was said, a closed context goes on to its end: isFinal."""
    headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
    contexts: dict[str, _Context] = {}
    tasks: set[asyncio.Task[None]] = set()

    def speak(name: str, context: _Context, *, closing: bool) -> None:
        text, context.text = context.text.strip(), ""
        before = context.task
        body = {**context.first, "path": connection.request.path}
        context.task = _watched(
            _elevenlabs_part(server, connection, name, text, body, headers, before, closing)
        )
        tasks.add(context.task)

    with suppress(websockets.ConnectionClosed):
        async for raw in connection:
            message = json.loads(raw)
            name = message.get("context_id", "default")
            if message.get("close_socket"):
                break
            context = contexts.get(name)
            if context is None:
                if not message.get("text"):
                    continue  # keeps a socket alive, or closes what is closed already
                context = contexts[name] = _Context(first=message)
            context.text += message.get("text") or ""
            if message.get("close_context"):
                del contexts[name]
                speak(name, context, closing=True)
            elif message.get("flush"):
                speak(name, context, closing=False)
    for task in tasks:
        await _cancelled(task)


async def _elevenlabs_part(
    server: FaultyServer,
    connection: ServerConnection,
    name: str,
    text: str,
    body: dict[str, Any],
    headers: dict[str, str],
    before: asyncio.Task[None] | None,
    closing: bool,
) -> None:
    if before is not None:
        await before
    outlet = _ElevenLabsOutlet(connection, name)
    if text:
        asked, fault = server.ask(text, body, headers)
        await _perform(server, asked, fault, outlet)
        if asked.ended in ("malformed", "odd"):
            return
    if closing:
        await outlet.say(audio="", isFinal=True, contextId=name)


def _watched(coroutine: Any) -> asyncio.Task[None]:
    async def run() -> None:
        with suppress(websockets.ConnectionClosed, OSError):
            await coroutine

    return asyncio.create_task(run())


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


# --- HTTP ----------------------------------------------------------------------------------------------


class _HttpOutlet(_Outlet):
    """A chunked body. Nothing is sent before the first sound, so that a fault may choose the status."""

    content_type = "audio/wav"

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.begun = False

    async def begin(self, status: int = 200, content_type: str | None = None) -> None:
        if not self.begun:
            self.begun = True
            await _write(self.writer, _head(status, content_type or self.content_type, chunked=True))
            await self.put(self.opening())

    async def put(self, data: bytes) -> None:
        if data:
            await _write(self.writer, b"%x\r\n%s\r\n" % (len(data), data))

    async def sound(self, pcm16: bytes, from_ms: float, spoken: Speech) -> None:
        await self.begin()
        await self.put(self.encoded(pcm16))

    async def done(self) -> None:
        await self.begin()
        await self.put(self.closing())
        await _write(self.writer, b"0\r\n\r\n")

    async def strike(self, fault: Fault) -> None:
        match fault.kind:
            case "reset":
                self.writer.transport.abort()
            case "half_closed":
                await self.begin()
                self.writer.write_eof()
                await asyncio.Event().wait()
            case "error" if not self.begun:
                code = fault.code or "generation_failed"
                body = json.dumps(self.failure(code)).encode()
                await _write(self.writer, _head(200, "application/json", size=len(body)) + body)
                return
            case "malformed" if not self.begun:
                body = b"<html>Bad gateway</html>"
                await _write(self.writer, _head(200, "text/html", size=len(body)) + body)
                return
            case "malformed":
                await _write(self.writer, b"zz\r\nwhat is this\r\n")
            case "odd":
                await self.begin()
                await self.put(b"\x01")
                await _write(self.writer, b"0\r\n\r\n")
                return
        raise ConnectionAbortedError("struck")

    def opening(self) -> bytes:
        return _WAV_HEADER

    def encoded(self, pcm16: bytes) -> bytes:
        return pcm16

    def closing(self) -> bytes:
        return b""

    def failure(self, code: str) -> dict[str, Any]:
        return {"success": False, "error": code, "message": "the model failed"}


class _JsonOutlet(_HttpOutlet):
    content_type = "application/json"

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self._carry = b""

    def opening(self) -> bytes:
        head = b'{"success": true, "sample_rate": %d, "duration_ms": 1000, "audio_data": "' % RATE_HZ
        return head + self.encoded(_WAV_HEADER)

    def encoded(self, pcm16: bytes) -> bytes:
        data = self._carry + pcm16
        whole = len(data) // 3 * 3
        self._carry = data[whole:]
        return base64.b64encode(data[:whole])

    def closing(self) -> bytes:
        return base64.b64encode(self._carry) + b'"}'


class _HostedOutlet(_HttpOutlet):
    def failure(self, code: str) -> dict[str, Any]:
        return {"error": f"it failed: {code}"}


class _UlawOutlet(_HttpOutlet):
    content_type = "audio/basic"

    def opening(self) -> bytes:
        return b""

    def encoded(self, pcm16: bytes) -> bytes:
        return _ulaw(pcm16)

    def failure(self, code: str) -> dict[str, Any]:
        return {"detail": {"type": "error", "code": code, "status": code, "message": f"Failed: {code}."}}


_HTTP_OUTLETS: dict[Service, type[_HttpOutlet]] = {
    "sesame_rest": _HttpOutlet,
    "sesame_fallback": _JsonOutlet,
    "sesame_hosted": _HostedOutlet,
    "elevenlabs_rest": _UlawOutlet,
}


async def _http(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server.connections += 1
    server.note()
    read_ahead = b""
    while head := await _read_head(reader, read_ahead):
        read_ahead = b""
        method, path, headers = head
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if server.fault.kind == "http":
            reply = json.dumps(_http_error(server)).encode()
            await _write(writer, _head(server.fault.status, "application/json", size=len(reply)) + reply)
        elif method != "POST":
            await _answer_other(writer, method, path)
        else:
            fields: dict[str, Any] = json.loads(body)
            text = fields.get("text") or fields.get("inputs") or ""
            asked, fault = server.ask(text, {**fields, "path": path}, headers)
            outlet = _HTTP_OUTLETS[server.service](writer)
            read_ahead = await _served(server, reader, asked, fault, outlet)


async def _served(
    server: FaultyServer, reader: asyncio.StreamReader, asked: Asked, fault: Fault, outlet: _Outlet
) -> bytes:
    """Speak unless the client hangs up first. → what was read of its next request."""
    speaking = asyncio.create_task(_perform(server, asked, fault, outlet))
    listening = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait([speaking, listening], return_when=asyncio.FIRST_COMPLETED)
        if not speaking.done():
            raise ConnectionAbortedError("the client has gone")
        await speaking
        return await listening if listening.done() else b""
    finally:
        for task in (speaking, listening):
            task.cancel()
        await asyncio.wait([speaking, listening])


async def _answer_other(writer: asyncio.StreamWriter, method: str, path: str) -> None:
    known = {
        "/health": _HEALTH,
        "/v1/user/subscription": {"tier": "creator", "character_count": 10, "character_limit": 100_000},
    }
    if path.startswith("/v1/voices/"):
        known[path] = {"voice_id": path.rpartition("/")[2], "name": "Any"}
    if method == "GET" and path in known:
        body = json.dumps(known[path]).encode()
        await _write(writer, _head(200, "application/json", size=len(body)) + body)
    else:
        await _write(writer, _head(405, "text/plain", size=0))


async def _read_head(
    reader: asyncio.StreamReader, read_ahead: bytes
) -> tuple[str, str, dict[str, str]] | None:
    try:
        raw = read_ahead + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return method, path, {name.lower(): value.strip() for name, value in pairs}


def _head(status: int, content_type: str, *, size: int | None = None, chunked: bool = False) -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n"
    ).encode()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()

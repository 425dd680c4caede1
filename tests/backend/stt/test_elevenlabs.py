"""ElevenLabs' realtime client against a stand-in that hears for real, and against servers that fail."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import numpy as np
import pytest
import uvicorn
import websockets
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from backend.core.g711 import Codec
from backend.errors import HearingError
from backend.simulator.elevenlabs import create_app, server_config
from backend.simulator.elevenlabs_account import Account
from backend.simulator.elevenlabs_voice import VendorVoice
from backend.simulator.wordcount import word_errors
from backend.stt.elevenlabs import ElevenLabsTranscriber
from backend.stt.local import LocalTranscriber
from tests.backend.stt.openai_server import free_port

KEY = "local-key"
SAID = "I would like to book an appointment for Tuesday."
MORE = "My name is Robert Miller."
FRAME = 320  # bytes, 20 ms
SECOND = bytes(16_000)


@pytest.fixture(scope="module")
def recogniser() -> Iterator[LocalTranscriber]:
    pytest.importorskip("moonshine_voice")
    ears = LocalTranscriber()
    yield ears
    ears.close()


class Vendor:
    """Keeps what the recogniser was given."""

    def __init__(self, ears: LocalTranscriber) -> None:
        self._ears = ears
        self.heard: list[bytes] = []

    async def transcribe(self, pcm16_8k: bytes) -> str:
        self.heard.append(pcm16_8k)
        return await self._ears.transcribe(pcm16_8k)


@asynccontextmanager
async def stand_in(vendor: Vendor, **account: Any) -> AsyncIterator[str]:
    app = create_app(Account(**account), cast(VendorVoice, None), ears=vendor)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app))
        server.capture_signals = contextmanager(lambda: iter([None]))  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def ears(url: str, **options: Any) -> AsyncIterator[ElevenLabsTranscriber]:
    made = ElevenLabsTranscriber(url, **{"api_key": KEY, **options})
    try:
        async with asyncio.timeout(30):
            yield made
    finally:
        await made.aclose()


async def stream(made: ElevenLabsTranscriber, pcm16: bytes, *, begins: bool = True) -> None:
    for at in range(0, len(pcm16), FRAME):
        made.hear(pcm16[at : at + FRAME], begins=begins and at == 0)
        await asyncio.sleep(0)


def words(said: str, text: str) -> None:
    assert word_errors(said, text).errors == 0, text


# --- a vendor that hears -------------------------------------------------------------------------------


async def test_turns_are_streamed_and_committed_by_us(recogniser: LocalTranscriber, on_the_line: Any) -> None:
    vendor = Vendor(recogniser)
    async with stand_in(vendor) as url, ears(url, language="en-US", key_terms=["Miller"]) as made:
        await made.connect()
        for said in (SAID, MORE, SAID):
            audio = on_the_line(said)
            await stream(made, audio)
            words(said, await made.transcribe(audio))


async def test_what_was_never_streamed_is_heard_as_well(
    recogniser: LocalTranscriber, on_the_line: Any
) -> None:
    async with stand_in(Vendor(recogniser)) as url, ears(url) as made:
        words(SAID, await made.transcribe(on_the_line(SAID)))
        words(MORE, await made.transcribe(on_the_line(MORE)))


async def test_a_caller_who_goes_on_is_heard_to_the_end_and_nothing_twice(
    recogniser: LocalTranscriber, on_the_line: Any
) -> None:
    vendor = Vendor(recogniser)
    first, rest = on_the_line(SAID), on_the_line(MORE)
    async with stand_in(vendor) as url, ears(url) as made:
        await made.connect()
        await stream(made, first)
        asking = asyncio.create_task(made.transcribe(first))
        await asyncio.sleep(0)
        asking.cancel()  # speech goes on
        with suppress(asyncio.CancelledError):
            await asking
        await stream(made, rest, begins=False)
        words(f"{SAID} {MORE}", await made.transcribe(first + rest))
        words(f"{SAID} {MORE}", await made.transcribe(first + rest))
        await stream(made, rest)
        words(MORE, await made.transcribe(rest))


async def test_a_turn_that_came_to_nothing_is_not_part_of_the_next(
    recogniser: LocalTranscriber, on_the_line: Any
) -> None:
    async with stand_in(Vendor(recogniser)) as url, ears(url) as made:
        await made.connect()
        await stream(made, on_the_line(SAID))
        await stream(made, on_the_line(MORE))
        words(MORE, await made.transcribe(on_the_line(MORE)))


async def test_a_very_short_word_is_not_too_short_to_commit(recogniser: LocalTranscriber) -> None:
    vendor = Vendor(recogniser)
    async with stand_in(vendor) as url, ears(url) as made:
        assert await made.transcribe(bytes(1600)) == ""
    assert len(vendor.heard[0]) >= 16 * 300


@pytest.mark.parametrize(
    ("options", "account", "reason"),
    [
        ({"api_key": "wrong"}, {}, "unauthorized"),
        ({"model": "scribe_v9"}, {}, "bad_request"),
        ({}, {"character_limit": 0}, "quota"),
    ],
)
async def test_refusals_are_told_apart(
    options: dict[str, str], account: dict[str, Any], reason: str, recogniser: LocalTranscriber
) -> None:
    async with stand_in(Vendor(recogniser), **account) as url, ears(url, **options) as made:
        with pytest.raises(HearingError) as raised:
            await made.transcribe(SECOND)
    assert (raised.value.reason, raised.value.route) == (reason, "elevenlabs")
    assert "wrong" not in str(raised.value)


# --- vendors that fail ---------------------------------------------------------------------------------

Behaviour = Callable[[ServerConnection, int], Awaitable[None]]


class Failing:
    """A server whose connections behave as told; keeps what commits they got."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.connections = 0
        self.audio = bytearray()
        self.commits = 0

    async def until_commit(self, socket: ServerConnection) -> None:
        async for raw in socket:
            message = json.loads(raw)
            assert message["message_type"] == "input_audio_chunk"
            assert message["sample_rate"] == 8000
            self.audio += Codec.PCMU.decode(base64.b64decode(message["audio_base_64"]))
            if message["commit"]:
                self.commits += 1
                return


async def tell(socket: ServerConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"message_type": kind, **fields}))


@asynccontextmanager
async def failing(behave: Behaviour, *, status: int | None = None) -> AsyncIterator[Failing]:
    server = Failing()

    async def handle(socket: ServerConnection) -> None:
        server.connections += 1
        with suppress(websockets.ConnectionClosed):
            await behave(socket, server.connections)

    def refuse(socket: ServerConnection, request: Request) -> Response | None:
        server.paths.append(request.path)
        return socket.respond(status, "no") if status else None  # type: ignore[arg-type]

    async with serve(handle, "127.0.0.1", 0, process_request=refuse, compression=None) as listening:
        server.url = f"http://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"
        yield server


async def never(socket: ServerConnection, number: int) -> None:
    await socket.wait_closed()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (429, "rate_limited"), (500, "generation_failed")],
)
async def test_refused_at_the_door(status: int, reason: str) -> None:
    async with failing(never, status=status) as server, ears(server.url) as made:
        with pytest.raises(HearingError) as raised:
            await made.connect()
    assert raised.value.reason == reason


async def test_the_address_says_what_is_sent() -> None:
    async with failing(never, status=500) as server:
        async with ears(server.url, language="de-DE", key_terms=["Kowalski", "x" * 21]) as made:
            with pytest.raises(HearingError):
                await made.connect()
        assert server.paths == [
            "/v1/speech-to-text/realtime?model_id=scribe_v2_realtime&audio_format=ulaw_8000"
            "&commit_strategy=manual&language_code=de&keyterms=Kowalski"
        ]


async def test_nobody_there() -> None:
    async with ears(f"http://127.0.0.1:{free_port()}") as made:
        with pytest.raises(HearingError) as raised:
            await made.transcribe(SECOND)
    assert raised.value.reason == "unreachable"


async def test_one_who_takes_the_call_and_never_speaks() -> None:
    async with failing(never) as server, ears(server.url, connect_timeout_s=0.05) as made:
        with pytest.raises(HearingError) as raised:
            await made.connect()
    assert raised.value.reason == "timeout"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("auth_error", "unauthorized"),
        ("quota_exceeded", "quota"),
        ("rate_limited", "rate_limited"),
        ("resource_exhausted", "busy"),
        ("input_error", "bad_request"),
        ("transcriber_error", "generation_failed"),
        ("something_new_error", "generation_failed"),
        ("committed_transcript", "protocol"),
        (None, "protocol"),
    ],
)
async def test_error_frames(kind: str | None, reason: str) -> None:
    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")
        await server.until_commit(socket)
        await (socket.send("<html>") if kind is None else tell(socket, kind, error="because"))
        await socket.wait_closed()

    async with failing(behave) as server, ears(server.url) as made:
        with pytest.raises(HearingError) as raised:
            await made.transcribe(SECOND)
    assert raised.value.reason == reason


async def test_a_connection_that_ended_between_words_is_replaced_and_told_all_again() -> None:
    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")
        if number == 1:
            return
        server.audio.clear()
        await server.until_commit(socket)
        await tell(socket, "partial_transcript", text="hel")
        await tell(socket, "committed_transcript", text=" hello ")
        await socket.wait_closed()

    async with failing(behave) as server, ears(server.url) as made:
        await made.connect()
        await stream(made, SECOND)
        assert await made.transcribe(SECOND) == "hello"
        assert (server.connections, server.commits) == (2, 1)
        assert len(server.audio) >= len(SECOND)


async def test_a_connection_that_always_ends_fails_in_the_end() -> None:
    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")

    async with failing(behave) as server, ears(server.url) as made:
        await made.connect()
        with pytest.raises(HearingError) as raised:
            await made.transcribe(SECOND)
        assert raised.value.reason == "closed"
        assert server.connections <= 3


@pytest.mark.parametrize("kind", ["commit_throttled", "insufficient_audio_activity"])
async def test_a_commit_without_text_is_no_words_and_no_failure(kind: str) -> None:
    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")
        await server.until_commit(socket)
        await tell(socket, kind, error="not enough")
        await server.until_commit(socket)
        await tell(socket, "committed_transcript", text="hello")
        await socket.wait_closed()

    async with failing(behave) as server, ears(server.url) as made:
        assert await made.transcribe(SECOND) == ""
        made.hear(b"", begins=True)
        assert await made.transcribe(SECOND) == "hello"
        assert server.connections == 1


async def test_one_who_never_answers_is_left_when_cancelled_and_an_answer_too_late_is_dropped() -> None:
    late = asyncio.Event()

    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")
        await server.until_commit(socket)
        late.set()
        await server.until_commit(socket)
        await tell(socket, "committed_transcript", text="what was said before")
        await tell(socket, "committed_transcript", text="what is said now")
        await socket.wait_closed()

    async with failing(behave) as server, ears(server.url) as made:
        asking = asyncio.create_task(made.transcribe(SECOND))
        await late.wait()
        asking.cancel()
        await asyncio.wait([asking])
        made.hear(b"\1\1" * 8000, begins=True)
        assert await made.transcribe(b"\1\1" * 8000) == "what is said now"


async def test_after_closing_nothing_is_heard() -> None:
    async with failing(never) as server:
        made = ElevenLabsTranscriber(server.url, api_key=KEY)
        await made.aclose()
        with pytest.raises(HearingError) as raised:
            await made.transcribe(SECOND)
    assert raised.value.reason == "closed"


async def test_a_fallback_that_was_never_connected_is_fed_while_the_caller_speaks() -> None:
    fed = asyncio.Event()

    async def behave(socket: ServerConnection, number: int) -> None:
        await tell(socket, "session_started")
        await socket.recv()
        fed.set()
        await server.until_commit(socket)
        await tell(socket, "committed_transcript", text="hello")
        await socket.wait_closed()

    async with failing(behave) as server, ears(server.url) as made:
        made.hear(SECOND, begins=True)
        await fed.wait()
        assert await made.transcribe(SECOND) == "hello"


async def test_a_monologue_is_bounded_and_its_beginning_is_not_lost() -> None:
    """Ten minutes without a pause, while who asks keeps the last of them."""
    total = 0

    async def behave(socket: ServerConnection, number: int) -> None:
        nonlocal total
        await tell(socket, "session_started")
        for part in range(100):
            await server.until_commit(socket)
            total += len(server.audio)
            server.audio.clear()
            await tell(socket, "committed_transcript", text=f"part {part}")

    async with failing(behave) as server, ears(server.url) as made:
        await made.connect()
        noise = np.random.default_rng(1).integers(-3000, 3000, 8000).astype("<i2").tobytes()
        kept = bytearray()
        for number in range(600):
            second = np.roll(np.frombuffer(noise, "<i2"), number * 7).astype("<i2").tobytes()
            made.hear(second, begins=number == 0)
            kept = (kept + second)[-60 * 16_000 :]
            await asyncio.sleep(0.001)
            assert len(made._turn) <= 121 * 16_000
        made.hear(SECOND[:640], begins=False)  # goes on while it is asked for
        text = await made.transcribe(bytes(kept))
        assert text.split()[1::2] == [str(part) for part in range(server.commits)]
        assert server.connections == 1 and server.commits >= 9
        assert 600 * 16_000 <= total <= 602 * 16_000, "each second once"


async def test_one_who_takes_no_more_audio_is_left_in_time_and_let_go_of() -> None:
    """Half of a connection is gone: nothing is read, nothing refused."""
    accepted: list[asyncio.StreamWriter] = []
    before = asyncio.all_tasks()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = websockets.utils.accept_key(key.partition(b":")[2].strip().decode()).encode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        hello = b'{"message_type": "session_started"}'
        writer.write(bytes([0x81, len(hello)]) + hello)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        accepted.append(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = ElevenLabsTranscriber(url, api_key=KEY, connect_timeout_s=0.3)
    try:
        await made.connect()
        for number in range(600):
            made.hear(np.full(8000, number, "<i2").tobytes(), begins=number == 0)
            await asyncio.sleep(0)
        with pytest.raises((HearingError, TimeoutError)):
            async with asyncio.timeout(1):
                await made.transcribe(bytes(made._turn))
        began_s = asyncio.get_running_loop().time()
        await made.aclose()
        assert asyncio.get_running_loop().time() - began_s < 30, "closing is bounded"
    finally:
        for writer in accepted:
            writer.transport.abort()
        server.close()
        await server.wait_closed()
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if "elevenlabs" in task.get_name()}
    assert not left, left


async def test_a_call_that_ends_while_connecting_leaves_nothing_behind() -> None:
    asked = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = ElevenLabsTranscriber(url, api_key=KEY)
    made.hear(SECOND, begins=True)
    asking = asyncio.create_task(made.transcribe(SECOND))
    await asked.wait()
    asking.cancel()
    await made.aclose()
    await asyncio.wait([asking])
    assert not [task for task in asyncio.all_tasks() if "elevenlabs" in task.get_name()]
    server.close()
    await server.wait_closed()

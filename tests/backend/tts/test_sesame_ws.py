"""The Sesame WebSocket client against a server that misbehaves in every way we could think of."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve

from backend.core.speech import Sound
from backend.errors import SpeechError
from backend.tts.sesame_ws import SesameWebSocketService

CHUNK = b"\x01\x02" * 480
REPLIES = json.loads(
    (Path(__file__).parents[2] / "contract" / "speech_replies.json").read_text(encoding="utf-8")
)
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's view of one connection: requests by number, and what to answer with."""

    def __init__(self, connection: ServerConnection, number: int) -> None:
        self.connection, self.number = connection, number
        self.requests: list[dict[str, Any]] = []
        self.id: str = ""

    async def request(self) -> dict[str, Any]:
        message = json.loads(await self.connection.recv())
        self.requests.append(message)
        self.id = message.get("request_id", self.id)
        return message

    async def sound(self, *chunks: bytes) -> None:
        for chunk in chunks:
            await self.connection.send(chunk)

    async def say(self, **fields: Any) -> None:
        await self.connection.send(json.dumps({"request_id": self.id, **fields}))

    async def done(self, reason: str = "eos") -> None:
        await self.say(done=True, reason=reason)


class Stage:
    """A running scripted server; `peers` are its connections in order."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.url = ""

    async def gone(self) -> None:
        """Returns when every connection is closed at the server's end."""
        for peer in self.peers:
            await peer.connection.wait_closed()


@asynccontextmanager
async def speech_server(script: Script, *, status: HTTPStatus | None = None) -> AsyncIterator[Stage]:
    stage = Stage()

    async def handle(connection: ServerConnection) -> None:
        peer = Peer(connection, len(stage.peers) + 1)
        stage.peers.append(peer)
        await script(peer)

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(status, "no\n") if status else None

    server: Server
    async with serve(handle, "127.0.0.1", 0, compression=None, process_request=refuse) as server:
        stage.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/generate"
        yield stage


def client(url: str, **options: Any) -> SesameWebSocketService:
    defaults: dict[str, Any] = {"first_audio_timeout_s": 0.3, "chunk_timeout_s": 0.3, "connect_timeout_s": 1}
    return SesameWebSocketService(url, **{**defaults, **options})


async def spoken(service: SesameWebSocketService, text: str = "Hello.", speaker_id: int = 0) -> bytes:
    async with asyncio.timeout(10):
        return b"".join([chunk async for chunk in service.stream_tts(text, speaker_id)])


async def failure(service: SesameWebSocketService, text: str = "Hello.") -> SpeechError:
    with pytest.raises(SpeechError) as caught:
        await spoken(service, text)
    return caught.value


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(2):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)


async def polite(peer: Peer) -> None:
    """Answers every request with two chunks, until the client goes."""
    async for message in peer.connection:
        request = json.loads(message)
        peer.requests.append(request)
        peer.id = request["request_id"]
        await peer.sound(CHUNK, CHUNK)
        await peer.done()


# --- what goes well ------------------------------------------------------------------------------------


async def test_utterances_share_one_connection_and_carry_the_settings() -> None:
    async with speech_server(polite) as stage:
        service = client(stage.url, settings={"temperature": 0.5, "voice": "ada"})
        await service.connect()
        assert [await spoken(service, text, 3) for text in ("One.", "Two.", "Three.")] == [CHUNK * 2] * 3
        await service.aclose()
        await stage.gone()
        (peer,) = stage.peers
        assert [request["text"] for request in peer.requests] == ["One.", "Two.", "Three."]
        assert {"temperature", "voice", "speaker_id", "request_id"} < set(peer.requests[0])
        assert peer.requests[0]["speaker_id"] == 3
        assert len({request["request_id"] for request in peer.requests}) == 3


async def test_speak_gives_sound_in_the_servers_rate_and_names_the_conversation() -> None:
    async with speech_server(polite) as stage:
        service = client(stage.url, speaker_id=4, context_id="call-7")
        async with aclosing(service.speak("Hello.", before="Well.")) as speaking:
            assert [sound async for sound in speaking] == [Sound(CHUNK, "pcm16", 24_000)] * 2
        service.context_id = None
        await spoken(service)
        await service.aclose()
        first, second = stage.peers[0].requests
        assert (first["speaker_id"], first["context_id"]) == (4, "call-7")
        assert "context_id" not in second


async def test_half_a_sample_is_a_protocol_error_and_the_connection_is_not_trusted_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return await polite(peer)
        await peer.request()
        await peer.sound(CHUNK + b"\0")
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)
        assert (await failure(service)).reason == "protocol"
        assert await spoken(service) == CHUNK * 2
        await service.aclose()


async def test_a_secret_in_the_address_is_not_told() -> None:
    error = await failure(client("ws://user:hunter2@127.0.0.1:9/ws/generate?token=hunter2"))
    assert "127.0.0.1:9/ws/generate" in str(error)
    assert "hunter2" not in str(error)


async def test_the_key_is_sent_as_a_bearer() -> None:
    async def script(peer: Peer) -> None:
        assert peer.connection.request is not None
        peer.requests.append(dict(peer.connection.request.headers.raw_items()))
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url, api_key="s3cret")
        await spoken(service)
        await service.aclose()
        assert stage.peers[0].requests[0]["Authorization"] == "Bearer s3cret"


async def test_two_utterances_at_once_take_turns() -> None:
    async with speech_server(polite) as stage:
        service = client(stage.url)
        assert await asyncio.gather(spoken(service, "One."), spoken(service, "Two.")) == [CHUNK * 2] * 2
        await service.aclose()
        assert len(stage.peers) == 1


@pytest.mark.parametrize("text", ["", "   ", "\n"])
async def test_empty_text_asks_for_nothing(text: str) -> None:
    assert await spoken(client("ws://127.0.0.1:9/ws/generate"), text) == b""


async def test_frames_of_other_requests_and_unknown_talk_are_passed_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.connection.send(json.dumps({"done": True, "request_id": "old", "reason": "cancelled"}))
        await peer.connection.send(json.dumps({"error": "busy", "request_id": "old"}))
        await peer.connection.send(json.dumps({"type": "audio_status", "status": "generating"}))
        await peer.connection.send("[1, 2]")
        await peer.sound(b"", CHUNK)
        await peer.connection.send(json.dumps({"done": True, "request_id": "old"}))
        await peer.sound(CHUNK)
        await peer.connection.send('{"done": true}')  # the least a server may say
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)
        assert await spoken(service) == CHUNK * 2
        await service.aclose()


@pytest.mark.parametrize("reply", REPLIES["done"], ids=lambda reply: reply["name"])
async def test_the_recorded_ends_are_ends(reply: dict[str, Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.sound(CHUNK)
        await peer.connection.send(reply["message"].replace(reply["request_id"], peer.id))
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url)
        assert await spoken(service) == CHUNK
        assert await spoken(service) == CHUNK * 2
        await service.aclose()


# --- what the server says went wrong -------------------------------------------------------------------


@pytest.mark.parametrize("after_chunks", [0, 1])
@pytest.mark.parametrize("reply", REPLIES["errors"], ids=lambda reply: reply["name"])
async def test_the_recorded_errors_are_told_at_once_and_leave_the_connection_usable(
    reply: dict[str, Any], after_chunks: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.sound(*[CHUNK] * after_chunks)
        message = reply["message"]
        await peer.connection.send(
            message.replace(reply["request_id"], peer.id) if reply["request_id"] else message
        )
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url)
        began = asyncio.get_running_loop().time()
        error = await failure(service)
        assert asyncio.get_running_loop().time() - began < 0.25, "the server's word was not believed"
        assert error.reason == reply["error"]
        assert json.loads(reply["message"])["message"] in str(error)
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 1
        assert all("cancel" not in request for request in stage.peers[0].requests)
        await service.aclose()


async def test_an_error_code_of_a_later_server_is_a_failed_generation() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(error="coffee_break")
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)
        error = await failure(service)
        assert error.reason == "generation_failed"
        assert "coffee_break" in str(error)
        await service.aclose()


async def test_done_without_a_sound_is_no_audio() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.done()
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url)
        assert (await failure(service)).reason == "no_audio"
        assert await spoken(service) == CHUNK * 2
        await service.aclose()


async def test_what_is_not_json_is_a_protocol_error_and_the_connection_is_not_trusted_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return await polite(peer)
        await peer.request()
        await peer.connection.send("<html>")
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)
        assert (await failure(service)).reason == "protocol"
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 2
        await service.aclose()


# --- what the network does -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "hint"),
    [
        (HTTPStatus.UNAUTHORIZED, "unauthorized", "SESAME_API_KEY"),
        (HTTPStatus.FORBIDDEN, "unauthorized", "SESAME_API_KEY"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "busy", "503"),
        (HTTPStatus.TOO_MANY_REQUESTS, "busy", "429"),
        (HTTPStatus.NOT_FOUND, "unreachable", "404"),
        (HTTPStatus.BAD_GATEWAY, "unreachable", "502"),
    ],
)
async def test_a_refused_upgrade_says_what_to_do(status: HTTPStatus, reason: str, hint: str) -> None:
    async with speech_server(polite, status=status) as stage:
        error = await failure(client(stage.url))
        assert error.reason == reason
        assert hint in str(error)
        assert stage.url in str(error)


async def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = await failure(client(f"ws://127.0.0.1:{port}/ws/generate"))
    assert error.reason == "unreachable"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/ws/generate", "nonsense", "ws://"])
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    assert (await failure(client(url))).reason == "unreachable"


async def test_a_peer_that_accepts_and_says_nothing_times_out() -> None:
    hung_up = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"", "the client lets go of the socket"
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(client(f"ws://127.0.0.1:{port}/", connect_timeout_s=0.1))
        assert error.reason == "timeout"
        async with asyncio.timeout(2):
            await hung_up.wait()


async def test_something_that_is_no_websocket_server_is_unreachable() -> None:
    async def teapot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(teapot, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await failure(client(f"ws://127.0.0.1:{port}/"))).reason == "unreachable"


@pytest.mark.parametrize("chunks", [0, 2])
async def test_silence_after_the_request_times_out_and_drops_the_connection(chunks: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.sound(*[CHUNK] * chunks)
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url, first_audio_timeout_s=0.1, chunk_timeout_s=0.1)
        assert (await failure(service)).reason == "timeout"
        async with asyncio.timeout(2):
            await stage.gone()


async def test_chatter_without_sound_does_not_prolong_the_wait() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.say(type="audio_status")
            try:
                async with asyncio.timeout(0.02):
                    await peer.connection.wait_closed()
                return
            except TimeoutError:
                continue

    async with speech_server(script) as stage:
        service = client(stage.url, first_audio_timeout_s=0.15)
        async with asyncio.timeout(2):
            assert (await failure(service)).reason == "timeout"


@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_a_connection_closed_while_speaking_is_told_as_closed(chunks: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.sound(*[CHUNK] * chunks)

    async with speech_server(script) as stage:
        service = client(stage.url)
        heard: list[bytes] = []
        with pytest.raises(SpeechError) as caught:
            async for chunk in service.stream_tts("Hello."):
                heard.append(chunk)
        assert caught.value.reason == "closed"
        assert heard == [CHUNK] * chunks
        assert len(stage.peers) == 1, "what was half heard is not said again"


@pytest.mark.parametrize(("code", "reason"), [(1008, "unauthorized"), (1013, "busy"), (1001, "closed")])
async def test_the_close_code_says_why(code: int, reason: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.connection.close(code)

    async with speech_server(script) as stage:
        assert (await failure(client(stage.url))).reason == reason


async def test_a_stale_kept_connection_is_replaced_once() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            return  # accepted, then closed: as after a restart of the server
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url)
        await service.connect()
        await stage.gone()
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 2
        await service.aclose()


async def test_a_server_that_closes_on_every_request_is_not_asked_for_ever() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with speech_server(script) as stage:
        service = client(stage.url)
        await service.connect()
        assert (await failure(service)).reason == "closed"
        assert len(stage.peers) == 2


async def test_after_closing_nothing_is_opened_again() -> None:
    async with speech_server(polite) as stage:
        service = client(stage.url)
        await spoken(service)
        await service.aclose()
        await service.aclose()
        assert (await failure(service)).reason == "closed"
        await stage.gone()
        assert len(stage.peers) == 1


async def test_closing_while_waiting_for_sound_does_not_reconnect() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url, first_audio_timeout_s=5)
        await service.connect()
        speech = asyncio.create_task(failure(service))
        async with asyncio.timeout(5):
            await asked.wait()
            await service.aclose()
            assert (await speech).reason == "closed"
        assert len(stage.peers) == 1


# --- stopping ------------------------------------------------------------------------------------------


async def cancellable(peer: Peer) -> None:
    """First request: sound until cancelled, some of it on its way after the cancel. Then polite."""
    await peer.request()
    await peer.sound(CHUNK)
    cancel = await peer.request()
    await peer.sound(CHUNK, CHUNK, CHUNK)
    peer.id = cancel["cancel"]
    await peer.done("cancelled")
    await polite(peer)


async def test_leaving_early_cancels_and_the_connection_goes_on_clean() -> None:
    async with speech_server(cancellable) as stage:
        service = client(stage.url)
        async with aclosing(service.stream_tts("A long story.")) as chunks:
            async for chunk in chunks:
                assert chunk == CHUNK
                break
        assert await spoken(service, "Next.") == CHUNK * 2, "no sound of the old request"
        (peer,) = stage.peers
        assert peer.requests[1] == {"cancel": peer.requests[0]["request_id"]}
        await service.aclose()


async def test_cancellation_before_the_first_sound_cancels_at_the_server() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        cancel = await peer.request()
        peer.id = cancel["cancel"]
        await peer.done("cancelled")
        await polite(peer)

    async with speech_server(script) as stage:
        service = client(stage.url, first_audio_timeout_s=5)
        speech = asyncio.create_task(spoken(service))
        async with asyncio.timeout(5):
            await asked.wait()
            speech.cancel()
            with pytest.raises(asyncio.CancelledError):
                await speech
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 1
        await service.aclose()


async def test_a_server_that_does_not_obey_a_cancel_is_left_within_a_second() -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return await polite(peer)
        await peer.request()
        await peer.sound(CHUNK)
        await peer.request()
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)
        began = asyncio.get_running_loop().time()
        async with aclosing(service.stream_tts("A long story.")) as chunks:
            await anext(chunks)
        assert asyncio.get_running_loop().time() - began < 1.5
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 2
        await service.aclose()


async def test_a_cancel_that_is_itself_cancelled_drops_the_connection() -> None:
    """Else the old request's sound would be taken for the next one's."""
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return await polite(peer)
        await peer.request()
        await peer.sound(CHUNK)
        await peer.request()
        told.set()
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url)

        async def leave_early() -> None:
            async with aclosing(service.stream_tts("A long story.")) as chunks:
                await anext(chunks)

        leaving = asyncio.create_task(leave_early())
        async with asyncio.timeout(5):
            await told.wait()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 2
        await service.aclose()


async def test_cancelled_while_the_request_is_still_being_sent_leaves_no_stale_sound() -> None:
    """A request stuck in a full socket may have reached the server or not: nobody can know."""
    reading = asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return await polite(peer)
        peer.connection.transport.pause_reading()
        await reading.wait()
        peer.connection.transport.resume_reading()
        await peer.connection.wait_closed()

    async with speech_server(script) as stage:
        service = client(stage.url, connect_timeout_s=5)
        await service.connect()
        speech = asyncio.create_task(spoken(service, "x" * 8_000_000))
        await asyncio.wait([speech], timeout=0.2)
        assert not speech.done(), "the text was meant to get stuck"
        speech.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await speech
        reading.set()
        assert await spoken(service) == CHUNK * 2
        assert len(stage.peers) == 2
        await service.aclose()


async def test_cancelled_while_connecting_leaves_no_socket() -> None:
    arrived, hung_up = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        port = server.sockets[0].getsockname()[1]
        service = client(f"ws://127.0.0.1:{port}/", connect_timeout_s=5)
        connecting = asyncio.create_task(service.connect())
        await arrived.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        # The upgrade request was read by `mute`, so what ends its read is the client's closing.
        await hung_up.wait()

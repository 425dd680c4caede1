from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets

REQUESTS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "contract" / "speech_requests.json").read_text("utf-8")
)
LONG = "This sentence is one of very many in a long text. " * 80


def ask(text: str, **fields: Any) -> str:
    return json.dumps({"text": text, "speaker_id": 0, **fields})


async def test_a_client_written_only_from_the_contract(server) -> None:
    async with server.connect() as socket:
        await socket.send('{"text": "Hello, this is a test.", "speaker_id": 0}')
        sound = b""
        while isinstance(message := await socket.recv(), bytes):
            sound += message
        done = json.loads(message)
    assert done["done"] is True
    assert set(done) == {"done", "request_id", "reason", "audio_ms", "first_audio_ms", "generate_ms"}
    assert done["reason"] == "eos"
    assert done["audio_ms"] == round(len(sound) / 48)
    assert 0 < done["first_audio_ms"] <= done["generate_ms"]
    samples = np.frombuffer(sound, "<i2")
    assert 24_000 < len(samples) < 24_000 * 4
    assert np.abs(samples).max() > 3000


@pytest.mark.parametrize(
    "chunk, rest", [(None, 4800), (480, 480), (2400, 2400), (9600, 9600), (24_000, 24_000)]
)
async def test_frames_are_cut_as_asked_and_never_padded(server, heard, chunk, rest) -> None:
    async with server.connect() as socket:
        await socket.send(ask("I have an opening on Tuesday at nine in the morning.", chunk_samples=chunk))
        spoken = await heard(socket)
    lengths = [len(frame) // 2 for frame in spoken.frames]
    assert lengths[0] == min(1920, rest)
    assert set(lengths[1:-1]) <= {rest}
    assert 0 < lengths[-1] <= rest


async def test_sound_begins_within_its_first_frame(server, heard) -> None:
    async with server.connect() as socket:
        await socket.send(ask("Yes, of course."))
        spoken = await heard(socket)
    first = np.frombuffer(spoken.frames[0], "<i2").astype(float)
    assert np.sqrt(np.mean(first**2)) > 100


@pytest.mark.parametrize("case", REQUESTS["accepted"], ids=lambda case: case["name"])
async def test_the_recorded_requests_are_spoken(server, heard, case) -> None:
    async with server.connect() as socket:
        await socket.send(case["message"])
        spoken = await heard(socket)
    assert spoken.reply["done"] is True
    assert spoken.frames


async def test_the_recorded_mistakes_are_refused_and_the_connection_lives(server, heard) -> None:
    async with server.connect() as socket:
        for case in REQUESTS["refused"]:
            await socket.send(case["message"])
            spoken = await heard(socket)
            assert spoken.frames == []
            assert spoken.reply["error"] == "bad_request", case
            assert case["says"] in spoken.reply["message"]
            assert spoken.reply["request_id"] == case["request_id"]
        await socket.send(b"\x00\x01")
        assert (await heard(socket)).reply["error"] == "bad_request"
        await socket.send(ask("Still here."))
        assert (await heard(socket)).reply["done"] is True


def heard_turn(pcm16: bytes, text: str = "Can you hear me?", context_id: str = "call", **fields: Any) -> str:
    turn = {"text": text, "audio": b64encode(pcm16).decode()}
    return json.dumps({"context_id": context_id, "heard": turn, **fields})


TONE = (8000 * np.sin(np.arange(24_000) / 20)).astype("<i2").tobytes()


async def test_the_recorded_turns_are_taken_and_not_kept_by_the_preview_voice(server, heard) -> None:
    async with server.connect() as socket:
        for case in REQUESTS["heard"]:
            await socket.send(case["message"])
            reply = (await heard(socket)).reply
            assert (reply["noted"], reply["context_id"]) == (False, "call-1")
        await socket.send(ask("I can hear you.", context_id="call-1"))
        assert (await heard(socket)).reply["done"] is True


async def test_a_turn_reaches_the_engine_in_its_place_among_the_requests(start, commanded, heard) -> None:
    engine = commanded({})
    server = start(engine)
    async with server.connect() as socket:
        await socket.send(ask("wait", request_id="a"))
        await socket.send(heard_turn(TONE, request_id="b"))
        await socket.send(ask("Hello.", request_id="c"))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        assert engine.heard == []
        await socket.send('{"cancel": true}')
        replies = [(await heard(socket)).reply for _ in "abc"]
    assert [each["request_id"] for each in replies] == ["a", "b", "c"]
    assert replies[1] == {"noted": True, "request_id": "b", "context_id": "call"}
    (turn,) = engine.heard
    assert (turn.context_id, turn.text, turn.speaker_id) == ("call", "Can you hear me?", 9)
    assert turn.samples.shape == (24_000,) and 0.2 < np.abs(turn.samples).max() < 0.3
    await server.until_health(lambda _: engine.forgotten == ["call"])


async def test_a_cancel_is_meant_for_speech_not_for_what_was_heard(start, commanded, heard) -> None:
    server = start(commanded({}))
    async with server.connect() as socket:
        for _ in range(10):
            await socket.send(heard_turn(TONE))
            await socket.send(ask("wait"))
            await socket.send('{"cancel": true}')
            assert (await heard(socket)).reply["noted"] is True
            assert (await heard(socket)).reply["reason"] == "cancelled"


@pytest.mark.parametrize(
    "audio, says",
    [
        (bytes(48_000), "is silent"),
        (TONE[:9000], "is 0.19 s long: send 0.2 to 30 s"),
        (TONE * 31, "is 31.00 s long"),
        (TONE[:-1], "neither a WAV file nor whole samples"),
        (b"RIFF torn", "is not a WAV file"),
    ],
)
async def test_sound_that_cannot_be_heard_is_refused_in_a_sentence(server, heard, audio, says) -> None:
    async with server.connect() as socket:
        await socket.send(heard_turn(audio, request_id="h"))
        reply = (await heard(socket)).reply
        assert (reply["error"], reply["request_id"]) == ("bad_request", "h")
        assert "the sound that was heard" in reply["message"] and says in reply["message"]
        await socket.send(heard_turn(TONE * 30))
        assert (await heard(socket)).reply["noted"] is False


async def test_an_unknown_voice_is_named_with_those_there_are(server, heard) -> None:
    async with server.connect() as socket:
        await socket.send(ask("Hello.", voice="nobody", request_id="v"))
        reply = (await heard(socket)).reply
    assert (reply["error"], reply["request_id"]) == ("bad_request", "v")
    assert "'nobody'" in reply["message"] and "heart" in reply["message"]


async def test_requests_on_one_connection_are_answered_in_order(server, heard) -> None:
    async with server.connect() as socket:
        for number in range(5):
            await socket.send(ask(f"Number {number}.", request_id=f"r{number}"))
        replies = [(await heard(socket)).reply for _ in range(5)]
    assert [reply["request_id"] for reply in replies] == [f"r{number}" for number in range(5)]
    assert all(reply["reason"] == "eos" for reply in replies)


async def test_equal_seeds_give_equal_bytes_and_speakers_differ(server, heard) -> None:
    async def said(**fields: Any) -> bytes:
        async with server.connect() as socket:
            await socket.send(ask("How can I help?", **fields))
            pcm16: bytes = (await heard(socket)).pcm16
        return pcm16

    assert await said(seed=5) == await said(seed=5)
    voices = {await said(seed=5, speaker_id=speaker) for speaker in range(10)}
    assert len(voices) == 10


async def test_the_longest_is_honoured(server, heard) -> None:
    async with server.connect() as socket:
        await socket.send(ask("This would take longer than half a second.", max_audio_length_ms=500))
        spoken = await heard(socket)
    assert (spoken.reply["reason"], spoken.reply["audio_ms"]) == ("max_length", 500)
    assert len(spoken.pcm16) == 500 * 48


async def test_sixteen_connections_at_once_all_hear_their_own(server, heard) -> None:
    async def one(number: int) -> tuple[int, Any]:
        async with server.connect() as socket:
            await socket.send(
                ask("This is caller " + "one two three " * (number % 4), request_id=str(number), seed=1)
            )
            return number % 4, await heard(socket)

    answers = await asyncio.gather(*(one(number) for number in range(16)))
    assert [spoken.reply["request_id"] for _, spoken in answers] == [str(number) for number in range(16)]
    sounds = {kind: {spoken.pcm16 for each, spoken in answers if each == kind} for kind in range(4)}
    assert all(len(same) == 1 for same in sounds.values()), "streams leaked into one another"
    assert len(set.union(*sounds.values())) == 4


async def test_cancel_stops_a_long_text_and_the_connection_lives(server, heard) -> None:
    async with server.connect() as socket:
        await socket.send(ask(LONG, request_id="long"))
        assert isinstance(await socket.recv(), bytes)
        await socket.send('{"cancel": true}')
        cancelled = await heard(socket)
        assert cancelled.reply["reason"] == "cancelled"
        assert cancelled.reply["audio_ms"] < 150_000, "the whole text was spoken all the same"
        await socket.send(ask("Go on."))
        assert (await heard(socket)).reply["reason"] == "eos"
    await server.until_health(lambda health: health["streams"]["active"] == 0)


async def test_cancel_comes_through_while_the_client_reads_nothing(server, heard) -> None:
    async with server.connect(max_queue=1) as socket:
        await socket.send(ask(LONG))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        await socket.send('{"cancel": true}')
        await server.until_health(lambda health: health["streams"]["active"] == 0)
        assert (await heard(socket)).reply["reason"] == "cancelled"


async def test_cancel_of_a_waiting_request_by_its_id(server, heard) -> None:
    async with server.connect() as socket:
        await socket.send(ask("One.", request_id="a"))
        await socket.send(ask("Two.", request_id="b"))
        await socket.send(ask("Three.", request_id="c"))
        await socket.send('{"cancel": "c"}')
        await socket.send('{"cancel": "nothing of this name"}')
        replies = [(await heard(socket)).reply for _ in range(3)]
    assert [(reply["request_id"], reply["reason"]) for reply in replies] == [
        ("a", "eos"), ("b", "eos"), ("c", "cancelled"),
    ]  # fmt: skip


async def test_a_vanished_client_frees_its_slot(server) -> None:
    async with server.connect(max_queue=1) as socket:
        await socket.send(ask(LONG))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        socket.transport.abort()
    await server.until_health(lambda health: health["streams"]["active"] == 0)


async def test_busy_then_served_when_the_slot_is_free(start, heard) -> None:
    server = start(max_streams=1, max_queue=0)
    async with server.connect(max_queue=1) as holder, server.connect() as other:
        await holder.send(ask(LONG))
        await server.until_health(lambda health: health["streams"]["free"] == 0)
        await other.send(ask("Hello.", request_id="refused"))
        reply = (await heard(other)).reply
        assert (reply["error"], reply["request_id"]) == ("busy", "refused")
        holder.transport.abort()
        await server.until_health(lambda health: health["streams"]["free"] == 1)
        await other.send(ask("Hello."))
        assert (await heard(other)).reply["reason"] == "eos"


async def test_a_waiting_request_is_served_next(start, heard) -> None:
    server = start(max_streams=1, max_queue=1)
    async with server.connect(max_queue=1) as holder, server.connect() as waiting:
        await holder.send(ask(LONG))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        await waiting.send(ask("Hello."))
        await server.until_health(lambda health: health["queue"]["waiting"] == 1)
        holder.transport.abort()
        assert (await heard(waiting)).reply["reason"] == "eos"


async def test_too_many_requests_on_one_connection_are_busy(start, commanded, heard) -> None:
    server = start(commanded({}))
    async with server.connect() as socket:
        await socket.send(ask("wait"))
        assert isinstance(await socket.recv(), bytes)
        for number in range(9):
            await socket.send(ask("Hello.", request_id=str(number)))
        reply = (await heard(socket)).reply
        assert (reply["error"], reply["request_id"]) == ("busy", "8")
        await socket.send('{"cancel": true}')
        replies = [(await heard(socket)).reply for _ in range(9)]
    assert [reply["reason"] for reply in replies] == ["cancelled"] + ["eos"] * 8


async def test_cancel_while_the_model_thinks_answers_at_once(start, commanded, heard) -> None:
    server = start(commanded({}))
    async with server.connect() as socket:
        await socket.send(ask("wait"))
        assert isinstance(await socket.recv(), bytes)
        await socket.send('{"cancel": true}')
        spoken = await heard(socket)
    assert spoken.frames == []
    assert (spoken.reply["reason"], spoken.reply["audio_ms"]) == ("cancelled", 80)


@pytest.mark.parametrize("code", ["not_ready", "out_of_memory", "generation_failed"])
@pytest.mark.parametrize("when", ["", "late "])
async def test_failures_have_their_code_and_the_connection_lives(start, commanded, heard, code, when) -> None:
    from runpod_server import errors

    kinds = {each.code: each for each in (errors.NotReady, errors.OutOfMemory, errors.GenerationFailed)}
    server = start(commanded({when + "fail": kinds[code]("what happened")}))
    async with server.connect() as socket:
        await socket.send(ask(when + "fail", request_id="f"))
        spoken = await heard(socket)
        assert spoken.reply == {"error": code, "message": "what happened", "request_id": "f"}
        await socket.send(ask("Hello."))
        assert (await heard(socket)).reply["reason"] == "eos"
    health = await server.health()
    assert health["streams"]["active"] == 0


async def test_a_reader_that_takes_nothing_is_dropped(start) -> None:
    server = start(options={"send_deadline_s": 0.2})
    async with server.connect(max_queue=1) as socket:
        await socket.send(ask(LONG))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        await server.until_health(lambda health: health["streams"]["active"] == 0)
        socket.transport.abort()


async def test_a_cancel_right_behind_its_request_is_not_lost(start, commanded, heard) -> None:
    """Both may have come before the server looked at either."""
    server = start(commanded({}))
    async with server.connect() as socket:
        for _ in range(10):
            await socket.send(ask("wait"))
            await socket.send('{"cancel": true}')
            assert (await heard(socket)).reply["reason"] == "cancelled"
        await socket.send(ask("Hello."))
        assert (await heard(socket)).reply["reason"] == "eos"


async def test_a_message_too_large_closes_with_1009(start) -> None:
    server = start(max_text_chars=100)
    async with server.connect() as socket:
        with pytest.raises(websockets.ConnectionClosed):  # by the sending, if that is not over when it closes
            await socket.send(ask("x" * 2_100_000))
            await socket.recv()
        assert socket.close_code == 1009


async def test_a_text_too_long_keeps_the_connection(start, heard) -> None:
    server = start(max_text_chars=100)
    async with server.connect() as socket:
        await socket.send(ask("x" * 101))
        reply = (await heard(socket)).reply
        assert reply["error"] == "bad_request" and "101 characters" in reply["message"]
        await socket.send(ask("Hello."))
        assert (await heard(socket)).reply["done"] is True


async def test_shutting_down_closes_with_1001(start) -> None:
    server = start()
    async with server.connect() as socket:
        server.stop()
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001


async def test_no_compression_even_when_offered(server) -> None:
    async with websockets.connect(f"ws://{server.host}/ws/generate", compression="deflate") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers

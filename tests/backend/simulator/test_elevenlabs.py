"""The ElevenLabs stand-in, spoken to by the vendor's own SDK, by our adapters, and by hand."""

from __future__ import annotations

import asyncio
import atexit
import base64
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
import trustme
import uvicorn
from elevenlabs import VoiceSettings
from elevenlabs.client import AsyncElevenLabs, ElevenLabs
from elevenlabs.core.api_error import ApiError
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from backend.core.g711 import Codec
from backend.core.speech import CharMark
from backend.errors import SpeechError
from backend.simulator.elevenlabs import create_app, main, server_config
from backend.simulator.elevenlabs_account import Account
from backend.simulator.elevenlabs_formats import FORMATS, encoded
from backend.simulator.elevenlabs_sockets import Pace
from backend.simulator.elevenlabs_voice import VendorVoice
from backend.simulator.phrases import hears_any
from backend.stt.local import LocalTranscriber
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService

KEY = "local-key"
RACHEL = "21m00Tcm4TlvDq8ikWAM"
TEXT = "Your appointment is on Tuesday at three."
FAST = Pace(first_audio_ms=0, times_real_time=1000)


class House:
    """A running stand-in."""

    def __init__(self, account: Account, app: FastAPI, url: str, http: httpx.AsyncClient) -> None:
        self.account, self.app, self.url, self._http = account, app, url, http

    def sdk(self, key: str = KEY) -> AsyncElevenLabs:
        return AsyncElevenLabs(api_key=key, base_url=self.url, httpx_client=self._http)

    def websocket(self, **options: Any) -> ElevenLabsWebSocketService:
        return ElevenLabsWebSocketService(self.url, **{"api_key": KEY, "voice_id": RACHEL, **options})

    def rest(self, **options: Any) -> ElevenLabsRestService:
        return ElevenLabsRestService(self.url, **{"api_key": KEY, "voice_id": RACHEL, **options})

    @asynccontextmanager
    async def by_hand(self, kind: str, query: str = "", key: str = KEY) -> AsyncIterator[ClientConnection]:
        url = f"{self.url.replace('http', 'ws')}/v1/text-to-speech/{RACHEL}/{kind}?{query}"
        async with connect(url, additional_headers={"xi-api-key": key} if key else {}) as connection:
            yield connection


@cache
def _voice() -> VendorVoice:
    voice = VendorVoice()
    atexit.register(voice.close)
    return voice


@asynccontextmanager
async def house(
    *, pace: Pace = FAST, certificate: Path | None = None, **account: Any
) -> AsyncIterator[House]:
    owner = Account(**account)
    app = create_app(owner, _voice(), pace=pace)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app, certificate=certificate))
        server.capture_signals = contextmanager(lambda: iter([None]))  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve(sockets=[listener]))  # connections wait until it does
        try:
            async with httpx.AsyncClient() as http:
                scheme = "http" if certificate is None else "https"
                yield House(owner, app, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", http)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture(scope="module")
def ears() -> Iterator[LocalTranscriber]:
    ears = LocalTranscriber()
    yield ears
    ears.close()


async def gathered(speaking: Any) -> tuple[bytes, list[CharMark]]:
    data, marks = b"", []
    async with asyncio.timeout(10):
        async for sound in speaking:
            data += sound.data
            marks += sound.marks
    return data, marks


async def failure(speaking: Any) -> SpeechError:
    with pytest.raises(SpeechError) as caught:
        await gathered(speaking)
    return caught.value


# --- the vendor's SDK ----------------------------------------------------------------------------------


async def test_the_sdk_is_spoken_to_over_http(ears: LocalTranscriber) -> None:
    async with house() as vendor:
        client = vendor.sdk()
        chunks = client.text_to_speech.stream(
            RACHEL,
            text=TEXT,
            model_id="eleven_flash_v2_5",
            output_format="ulaw_8000",
            voice_settings=VoiceSettings(stability=0.5, speed=1.0),
            previous_text="Hello.",
        )
        ulaw = b"".join([chunk async for chunk in chunks])
        assert hears_any([TEXT], await ears.transcribe(Codec.PCMU.decode(ulaw)))
        assert vendor.app.state.asked == [
            {"text": TEXT, "model_id": "eleven_flash_v2_5", "previous_text": "Hello."}
        ]
        subscription = await client.user.subscription.get()
        assert subscription.character_count == len(TEXT) // 2, "flash costs half a credit a character"
        voices = await client.voices.get_all()
        assert RACHEL in [voice.voice_id for voice in voices.voices]
        assert (await client.voices.get(RACHEL)).name == "Rachel"
        with pytest.raises(ApiError, match="voice_not_found"):
            await client.voices.get("nobody")


def at_8k(mp3: bytes) -> bytes:
    """An MP3 as PCM for the recogniser."""
    samples, rate_hz = soundfile.read(io.BytesIO(mp3), dtype="float32")
    return (soxr.resample(samples, rate_hz, 8_000).clip(-1, 1) * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("method", ["convert", "stream"])
async def test_the_sdks_default_is_an_mp3_of_128_kbit(method: str, ears: LocalTranscriber) -> None:
    async with house() as vendor:
        chunks = getattr(vendor.sdk().text_to_speech, method)(RACHEL, text=TEXT)
        mp3 = b"".join([chunk async for chunk in chunks])
        told = soundfile.info(io.BytesIO(mp3))
        assert (told.format, told.samplerate, told.channels) == ("MP3", 44_100, 1)
        assert len(mp3) * 8 / told.duration == pytest.approx(128_000, rel=0.05)
        assert hears_any([TEXT], await ears.transcribe(at_8k(mp3)))


@pytest.mark.parametrize("output_format", [each for each in FORMATS if each.startswith("mp3")])
def test_every_mp3_has_the_rate_it_is_called_by(output_format: str) -> None:
    _, rate_hz, kbit = output_format.split("_")
    mp3 = encoded(_voice().say_now(TEXT).pcm16, output_format)
    told = soundfile.info(io.BytesIO(mp3))
    assert told.samplerate == int(rate_hz)
    assert len(mp3) * 8 / told.duration == pytest.approx(int(kbit) * 1000, rel=0.1)


@pytest.mark.parametrize("output_format", ["mp3_44100_128", "mp3_22050_32"])
def test_mp3s_that_are_joined_play_to_the_end(output_format: str) -> None:
    one = encoded(_voice().say_now(TEXT).pcm16, output_format)
    once, twice = (soundfile.read(io.BytesIO(each))[0] for each in (one, one + one))
    assert one[0] == 0xFF and b"Info" not in one[:64], "begins with a frame of sound"
    assert len(twice) == pytest.approx(2 * len(once), rel=0.02)


async def test_the_sdk_gets_timestamps_with_the_whole(ears: LocalTranscriber) -> None:
    async with house() as vendor:
        reply = await vendor.sdk().text_to_speech.convert_with_timestamps(RACHEL, text=TEXT)
        mp3 = base64.b64decode(reply.audio_base_64)
        assert hears_any([TEXT], await ears.transcribe(at_8k(mp3)))
        assert reply.alignment is not None and reply.normalized_alignment == reply.alignment
        assert "".join(reply.alignment.characters) == TEXT
        starts, ends = (
            reply.alignment.character_start_times_seconds,
            reply.alignment.character_end_times_seconds,
        )
        assert starts == sorted(starts) and starts[1:] == ends[:-1]
        assert ends[-1] <= soundfile.info(io.BytesIO(mp3)).duration + 0.01


async def test_the_sdk_gets_timestamps_as_it_is_spoken(ears: LocalTranscriber) -> None:
    async with house() as vendor:
        stream = vendor.sdk().text_to_speech.stream_with_timestamps(RACHEL, text=TEXT)
        chunks = [chunk async for chunk in stream]
        assert len(chunks) > 5
        mp3 = b"".join(base64.b64decode(chunk.audio_base_64) for chunk in chunks)
        assert hears_any([TEXT], await ears.transcribe(at_8k(mp3)))
        timed = [chunk.alignment for chunk in chunks if chunk.alignment is not None]
        assert "".join(char for each in timed for char in each.characters) == TEXT
        starts = [start for each in timed for start in each.character_start_times_seconds]
        assert starts == sorted(starts)
        assert vendor.account.character_count == len(TEXT)


@pytest.mark.parametrize("path", ["", "/stream", "/with-timestamps", "/stream/with-timestamps"])
async def test_every_way_to_ask_is_refused_without_the_key(path: str) -> None:
    async with house() as vendor, httpx.AsyncClient() as http:
        asked = await http.post(f"{vendor.url}/v1/text-to-speech/{RACHEL}{path}", json={"text": TEXT})
        assert (asked.status_code, asked.json()["detail"]["code"]) == (401, "invalid_api_key")


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_over_tls_the_sdk_works_unchanged_its_websocket_helper_too(
    ears: LocalTranscriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper says wss whatever the address, so without TLS it cannot be had as it is."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    words = ["Your appointment ", "is on Tuesday, ", "the twenty first of October, ", "at three."]

    def listen(url: str) -> bytes:
        with httpx.Client() as http:
            client = ElevenLabs(api_key=KEY, base_url=url, httpx_client=http)
            assert client.voices.get(RACHEL).name == "Rachel"
            return b"".join(client.text_to_speech.convert_realtime(RACHEL, text=iter(words)))

    async with house(certificate=tmp_path / "server.pem") as vendor, asyncio.timeout(20):
        mp3 = await asyncio.to_thread(listen, vendor.url)
    heard = (await ears.transcribe(at_8k(mp3))).lower()
    assert "appointment" in heard and "october" in heard and "three" in heard.replace("3", "three")


def test_a_certificate_that_is_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    assert main(["--port", "0", "--certificate", str(tmp_path / "no.pem")]) == 2
    assert "elevenlabs: --certificate" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_the_sdks_own_websocket_helper_is_spoken_to(ears: LocalTranscriber) -> None:
    async with house() as vendor:
        client = ElevenLabs(api_key=KEY, base_url=vendor.url)
        # The helper always says wss; without TLS, its address is put right here.
        helper = client.text_to_speech
        helper._ws_base_url = vendor.url.replace("http", "ws")
        heard: list[bytes] = []

        def listen() -> None:
            stream = helper.convert_realtime(
                RACHEL, text=iter(["Your appointment ", "is on Tuesday."]), output_format="pcm_24000"
            )
            heard.extend(stream)

        thread = Thread(target=listen, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, 10)
        pcm = np.frombuffer(b"".join(heard), "<i2").astype(np.float32)
        at_8k = soxr.resample(pcm, 24_000, 8_000).astype("<i2").tobytes()
        assert hears_any(["your appointment is on Tuesday"], await ears.transcribe(at_8k))


@pytest.mark.parametrize(
    ("account", "arguments", "status", "code"),
    [
        ({}, {"key": "wrong"}, 401, "invalid_api_key"),
        ({}, {"voice": "nobody"}, 404, "voice_not_found"),
        ({"character_limit": 3}, {}, 401, "quota_exceeded"),
        ({"concurrency": 0}, {}, 429, "concurrent_limit_exceeded"),
        ({}, {"model": "eleven_v99"}, 400, "model_not_found"),
    ],
)
async def test_the_sdk_is_refused_as_by_the_vendor(
    account: dict[str, Any], arguments: dict[str, str], status: int, code: str
) -> None:
    async with house(**account) as vendor:
        client = vendor.sdk(arguments.get("key", KEY))
        with pytest.raises(ApiError) as caught:
            async for _ in client.text_to_speech.stream(
                arguments.get("voice", RACHEL),
                text=TEXT,
                model_id=arguments.get("model", "eleven_flash_v2_5"),
                output_format="ulaw_8000",
            ):
                pass
        assert (caught.value.status_code, caught.value.body["detail"]["code"]) == (status, code)


# --- our adapters --------------------------------------------------------------------------------------


async def test_both_adapters_say_the_words(ears: LocalTranscriber) -> None:
    async with house() as vendor:
        for voice in (vendor.websocket(), vendor.rest()):
            await voice.connect()
            ulaw, _ = await gathered(voice.speak(TEXT, before="Hello."))
            assert hears_any([TEXT], await ears.transcribe(Codec.PCMU.decode(ulaw)))
            await voice.aclose()
        assert vendor.app.state.asked[0]["previous_text"] == "Hello."


async def test_marks_run_over_the_whole_text_in_time_with_the_sound() -> None:
    async with house() as vendor:
        voice = vendor.websocket()
        ulaw, marks = await gathered(voice.speak(TEXT))
        await voice.aclose()
        assert [mark.character for mark in marks] == list(range(len(TEXT)))
        times_ms = [mark.at_ms for mark in marks]
        assert times_ms == sorted(times_ms)
        assert times_ms[-1] < len(ulaw) / 8
        # The estimate is by the number of sounds: good to a syllable or two.
        tuesday_ms = marks[TEXT.index("Tuesday")].at_ms
        assert 0.4 < tuesday_ms / (len(ulaw) / 8) < 0.75


@pytest.mark.parametrize("cut", ["on", "Tuesday", "at"])
async def test_sound_cut_at_a_mark_holds_the_words_before_it(cut: str, ears: LocalTranscriber) -> None:
    async with house() as vendor:
        voice = vendor.websocket()
        ulaw, marks = await gathered(voice.speak(TEXT))
        await voice.aclose()
        upto_ms = marks[TEXT.index(f" {cut} ") + 1].at_ms
        heard = (await ears.transcribe(Codec.PCMU.decode(ulaw[: int(upto_ms * 8)]))).lower()
        assert "appointment" in heard
        assert "three" not in heard


@pytest.mark.parametrize(
    ("account", "options", "reason"),
    [
        ({}, {"api_key": "wrong"}, "unauthorized"),
        ({}, {"voice_id": "nobody"}, "unknown_voice"),
        ({"character_limit": 3, "silent_quota": False}, {}, "quota"),
        ({"concurrency": 0}, {}, "rate_limited"),
        ({}, {"model_id": "eleven_v99"}, "bad_request"),
    ],
)
@pytest.mark.parametrize("kind", ["websocket", "rest"])
async def test_the_adapters_tell_refusals_apart(
    kind: str, account: dict[str, Any], options: dict[str, str], reason: str
) -> None:
    async with house(**account) as vendor:
        voice = getattr(vendor, kind)(**options)
        error = await failure(voice.speak(TEXT))
        if not (kind == "websocket" and reason == "bad_request"):  # an error frame has no status
            assert error.reason == reason
        await voice.aclose()


async def test_a_socket_out_of_credit_falls_silent_and_http_tells_why() -> None:
    async with house(character_limit=3) as vendor:
        sockets, http = vendor.websocket(), vendor.rest()
        assert (await failure(sockets.speak(TEXT))).reason == "no_audio"
        assert (await failure(http.speak(TEXT))).reason == "quota"
        await sockets.aclose()
        await http.aclose()


async def test_warming_tells_a_bad_key_and_spent_credit_for_nothing() -> None:
    async with house(character_limit=100, character_count=100) as vendor:
        for voice, reason in (
            (vendor.websocket(api_key="wrong"), "unauthorized"),
            (vendor.rest(api_key="wrong"), "unauthorized"),
            (vendor.rest(), "quota"),
        ):
            with pytest.raises(SpeechError) as caught:
                await voice.connect()
            assert caught.value.reason == reason
            await voice.aclose()
        assert vendor.account.character_count == 100


async def test_utterances_side_by_side_keep_to_themselves() -> None:
    texts = [f"Number {number}." for number in ("one", "two", "three", "four", "five", "six", "seven")]
    async with house(pace=Pace(10, 20)) as vendor:
        voice = vendor.websocket()
        alone = [(await gathered(voice.speak(text)))[0] for text in texts]
        together = await asyncio.gather(*(gathered(voice.speak(text)) for text in texts))
        assert [sound for sound, _ in together] == alone
        await voice.aclose()


async def test_stopped_utterances_make_room_again() -> None:
    async with house(pace=Pace(10, 20)) as vendor:
        voice = vendor.websocket()
        for _ in range(8):
            speaking = voice.speak(TEXT)
            await anext(speaking)
            await speaking.aclose()
        _, marks = await gathered(voice.speak("Still here."))
        assert len(marks) == len("Still here.")
        await voice.aclose()


async def test_an_idle_connection_is_kept_alive() -> None:
    async with house() as vendor:
        voice = vendor.websocket(keep_alive_s=0.05)
        voice.url = voice.url.replace("inactivity_timeout=180", "inactivity_timeout=1.5")
        await voice.connect()
        link = voice._link
        assert link is not None
        done, _ = await asyncio.wait([link.reader], timeout=2.5)
        assert not done
        await voice.aclose()


async def test_a_connection_given_up_for_idleness_is_replaced() -> None:
    async with house() as vendor:
        voice = vendor.websocket()
        voice.url = voice.url.replace("inactivity_timeout=180", "inactivity_timeout=0.1")
        await voice.connect()
        link = voice._link
        assert link is not None
        async with asyncio.timeout(5):
            await asyncio.wait([link.reader])
        assert len((await gathered(voice.speak("Hello.")))[0]) > 0
        assert voice._link is not link
        await voice.aclose()


async def test_voice_settings_and_language_reach_the_vendor() -> None:
    async with house() as vendor:
        voice = vendor.rest(voice_settings={"stability": 0.4, "speed": 1.1}, language="de-DE")
        await gathered(voice.speak("Hello."))
        await voice.aclose()
        assert vendor.app.state.asked[0]["language_code"] == "de"
        assert "language_code=de" in vendor.websocket(language="de-DE").url
        assert "language_code" not in vendor.websocket(language="de", model_id="eleven_multilingual_v2").url


# --- by hand -------------------------------------------------------------------------------------------


async def test_a_single_stream_speaks_when_enough_text_is_there_and_at_the_end() -> None:
    async with house() as vendor, vendor.by_hand("stream-input", "output_format=ulaw_8000") as line:
        await line.send(json.dumps({"text": " ", "generation_config": {"chunk_length_schedule": [50]}}))
        await line.send(json.dumps({"text": "This is a text of more than fifty characters, in all. "}))
        while not (chars := json.loads(await line.recv())["alignment"]["chars"]):
            pass  # silence before the first word
        assert "".join(chars).startswith("Th")
        await line.send(json.dumps({"text": "And more. "}))
        await line.send(json.dumps({"text": ""}))
        messages = [json.loads(raw) async for raw in line]
        assert messages[-1]["isFinal"] is True
        assert sum(len(base64.b64decode(m["audio"] or "")) for m in messages) > 8_000


@pytest.mark.parametrize(
    ("messages", "query", "key", "code"),
    [
        ([], "", "wrong", "invalid_api_key"),
        ([{"text": " ", "xi_api_key": "wrong"}], "", "", "invalid_api_key"),
        ([{"text": " "}], "", "", "invalid_api_key"),
        ([], "output_format=opus_48000_32", KEY, "invalid_output_format"),
        ([], "output_format=ulaw_8000&model_id=eleven_v3", KEY, "unsupported_model"),
        ([{"text": " ", "context_id": str(n)} for n in range(6)], "output_format=ulaw_8000", KEY,
         "max_contexts_exceeded"),
        ([], "output_format=ulaw_8000&inactivity_timeout=0.05", KEY, "input_timeout_exceeded"),
        (["no json"], "output_format=ulaw_8000", KEY, "invalid_message"),
    ],
)  # fmt: skip
async def test_errors_are_a_frame_and_then_the_end(
    messages: list[Any], query: str, key: str, code: str
) -> None:
    async with house() as vendor, vendor.by_hand("multi-stream-input", query, key) as line:
        for message in messages:
            await line.send(message if isinstance(message, str) else json.dumps(message))
        async with asyncio.timeout(5):
            frame = json.loads(await line.recv())
            assert (frame["error"], frame["code"]) == (code, 1008)
            await line.wait_closed()
        assert line.close_code == 1008

"""OpenAI's speech endpoints, so that its clients, Pipecat and LiveKit Agents work with a base URL changed.

`model` is accepted whatever it says: one server has one model. OpenAI's voice names are speakers of ours.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Literal
from uuid import uuid4

import orjson
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runpod_server import wire
from runpod_server.api.delivery import SpeechResponse, first_frame
from runpod_server.api.json_body import JsonRoute
from runpod_server.api.patience import Patience
from runpod_server.api.utterance import Service, Utterance
from runpod_server.audio import SAMPLE_RATE_HZ, wav_header
from runpod_server.encodings import compressor
from runpod_server.rates import Resampler, SampleRateHz

ENDPOINT = "/v1/audio/speech"

# Matched by character, as far as ten speakers go.
OPENAI_VOICES = {
    "alloy": 0, "ash": 3, "ballad": 7, "cedar": 7, "coral": 2, "echo": 1, "fable": 9, "marin": 6,
    "nova": 4, "onyx": 5, "sage": 6, "shimmer": 8, "verse": 1,
}  # fmt: skip

_MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "wav": "audio/wav",
    "pcm": "audio/pcm;rate={rate_hz};encoding=signed-int;bits=16",
}


class VoiceRef(BaseModel):
    """The form of `voice` that names a custom voice."""

    id: str


class SpeechBody(BaseModel):
    """OpenAI's request. Fields of theirs that have no meaning here are ignored."""

    model_config = ConfigDict(strict=True)

    input: str = Field(description="What to say.")
    model: str | None = Field(None, description="Any; one server has one model.")
    voice: str | VoiceRef | None = Field(None, description="A voice of this server, of OpenAI's, or 0 to 9.")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float | None = Field(None, description="0.25 to 4; default 1.")
    sample_rate: SampleRateHz | None = Field(None, description="In Hz; default 24000. Not OpenAI's.")


def openai_router(service: Service) -> APIRouter:
    """POST /v1/audio/speech, and the models and voices there are."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=JsonRoute)

    @router.post("/audio/speech", summary="Speak a text, streamed while it is made", response_class=Response)
    async def speech(body: SpeechBody, request: Request) -> Response:
        rate_hz = body.sample_rate or SAMPLE_RATE_HZ
        encoder = await asyncio.to_thread(Encoder, body.response_format, rate_hz)  # the first loads libraries
        utterance = service.speak(_asked(body, service.limits), endpoint=ENDPOINT)
        with ExitStack() as until_handed_over:
            until_handed_over.enter_context(utterance)
            frames = utterance.frames()
            first = await first_frame(request, utterance, frames)
            until_handed_over.pop_all()
        sound = _encoded(encoder, first, frames)
        if body.stream_format == "sse":
            sound, media_type = _events(sound, utterance, body.input), "text/event-stream"
        else:
            media_type = _MEDIA_TYPES[body.response_format].format(rate_hz=rate_hz)
        return SpeechResponse(sound, utterance, media_type, Patience(service.send_deadline_s))

    @router.get("/models", summary="The one model of this server")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [_model(service.engine.model)]}

    @router.get("/models/{model_id:path}", summary="That model, by its id")
    async def model(model_id: str) -> dict[str, object]:
        if model_id != service.engine.model:
            raise HTTPException(404, f"there is no such model: this server has {service.engine.model}")
        return _model(model_id)

    @router.get("/audio/models", summary="The same, in the shape of Open WebUI")
    async def audio_models() -> dict[str, object]:
        return {"models": [{"id": service.engine.model, "name": service.engine.model}]}

    @router.get("/audio/voices", summary="The named voices")
    async def voices() -> dict[str, object]:
        return {
            "voices": [
                {
                    "id": voice.name,
                    "name": voice.name,
                    "speaker_id": voice.speaker_id,
                    "description": voice.description,
                }
                for voice in service.engine.voices
            ]
        }

    return router


def _model(model_id: str) -> dict[str, object]:
    return {"id": model_id, "object": "model", "created": 0, "owned_by": "runpod_server"}


class Encoder:
    """Any response format and rate by the same two calls. Raises BadRequest where they cannot be made."""

    def __init__(self, form: str, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._head = wav_header(rate_hz=rate_hz) if form == "wav" else b""
        self._compressed = None if form in ("wav", "pcm") else compressor(form, rate_hz)
        self._resampler = Resampler(rate_hz)
        self._is_work = self._compressed is not None or rate_hz != SAMPLE_RATE_HZ

    async def push(self, pcm16: bytes) -> bytes:
        """Encode a frame; what takes time is done in a thread."""
        return await asyncio.to_thread(self._push, pcm16) if self._is_work else self._push(pcm16)

    async def finish(self) -> bytes:
        """The last bytes."""
        return await asyncio.to_thread(self._finish) if self._is_work else self._finish()

    def _push(self, pcm16: bytes) -> bytes:
        return self._formed(self._resampler.push(pcm16))

    def _finish(self) -> bytes:
        tail = self._formed(self._resampler.finish())
        return tail if self._compressed is None else tail + self._compressed.finish()

    def _formed(self, pcm16: bytes) -> bytes:
        if self._compressed is not None:
            return self._compressed.push(pcm16)
        head, self._head = self._head, b""
        return head + pcm16


def _asked(body: SpeechBody, limits: wire.Limits) -> wire.Generate:
    voice = body.voice.id if isinstance(body.voice, VoiceRef) else body.voice
    fields = wire.with_voice_id(
        {
            "text": body.input,
            "speed": body.speed,
            "voice_id": OPENAI_VOICES.get(voice, voice) if voice is not None else None,
        }
    )
    return wire.generate_from(fields, limits, fallback_id=uuid4().hex[:12])


async def _encoded(encoder: Encoder, first: bytes, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if ready := await encoder.push(first):
        yield ready
    async for frame in frames:
        if ready := await encoder.push(frame):
            yield ready
    if tail := await encoder.finish():
        yield tail


async def _events(sound: AsyncIterator[bytes], utterance: Utterance, text: str) -> AsyncIterator[bytes]:
    async for piece in sound:
        yield _event({"type": "speech.audio.delta", "audio": b64encode(piece).decode()})
    # This server counts no tokens: characters in, frames of 80 ms out, are its nearest measures.
    spoken_frames = -(-utterance.summary().audio_ms // 80)
    usage = {
        "input_tokens": len(text),
        "output_tokens": spoken_frames,
        "total_tokens": len(text) + spoken_frames,
    }
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(fields: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"

"""POST /generate and the sounds it keeps under /audio: for clients that cannot have a WebSocket."""

from __future__ import annotations

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Literal
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runpod_server import wire
from runpod_server.api.audio_store import AudioStore
from runpod_server.api.delivery import SpeechResponse, cancelled_when_gone, first_frame
from runpod_server.api.json_body import JsonRoute
from runpod_server.api.patience import Patience
from runpod_server.api.replies import failure_response
from runpod_server.api.utterance import Service, Utterance
from runpod_server.audio import SAMPLE_RATE_HZ, wav, wav_header

ENDPOINT = "/generate"


class GenerateBody(BaseModel):
    """The types; the bounds are `wire`'s, so that every endpoint says the same of the same mistake."""

    model_config = ConfigDict(strict=True)

    text: str | None = Field(None, description="What to say.", examples=["Hello, this is a test."])
    speaker_id: int | None = Field(None, description="0 to 9; default 0.")
    voice: str | None = Field(None, description="A named voice; it wins over speaker_id.")
    format: Literal["base64", "wav", "url"] | None = Field(None, description="Default base64.")
    max_audio_length_ms: int | None = Field(None, description="80 to 600000; default: by the text's length.")
    temperature: float | None = Field(None, description="0 (greedy) to 2.")
    top_k: int | None = None
    seed: int | None = Field(None, description="Equal seeds give equal sound.")
    context_id: str | None = None
    request_id: str | None = None


def rest_router(service: Service, store: AudioStore) -> APIRouter:
    """POST /generate, GET /audio/{id}.wav."""
    router = APIRouter(tags=["speech"], route_class=JsonRoute)

    @router.post(ENDPOINT, summary="Speak a text: base64 JSON, a streamed WAV, or a URL", response_model=None)
    async def generate(body: GenerateBody, request: Request) -> Response | dict[str, object]:
        fields = body.model_dump(exclude_none=True)
        asked = wire.generate_from(fields, service.limits, fallback_id=uuid4().hex[:12])
        utterance = service.speak(asked, endpoint=ENDPOINT)
        if body.format == "wav":
            return await _streamed(request, utterance, Patience(service.send_deadline_s))
        with utterance, cancelled_when_gone(request, utterance):
            pcm16 = await utterance.collect()
        audio = {"sample_rate": SAMPLE_RATE_HZ, "duration_ms": utterance.sent_ms}
        if body.format == "url":
            audio_id = secrets.token_urlsafe(16)
            store.put(audio_id, wav(pcm16), time.monotonic())
            expires_s = round(store.keep_s)
            return {
                "success": True,
                "audio_url": f"/audio/{audio_id}.wav",
                "expires_in_s": expires_s,
                **audio,
            }
        return await asyncio.to_thread(_in_json, pcm16, audio)  # megabytes: not on the event loop

    @router.get("/audio/{audio_id}.wav", summary="A sound made with format=url", response_class=Response)
    async def audio(audio_id: str) -> Response:
        kept = store.get(audio_id, time.monotonic())
        if kept is None:
            text = f"no such audio: it is kept for {store.keep_s:.0f} s at most, so generate it again"
            return failure_response("/audio", 404, "not_found", text)
        return Response(kept, media_type="audio/wav")

    return router


def _in_json(pcm16: bytes, audio: dict[str, int]) -> Response:
    content = {"success": True, "audio_data": b64encode(wav(pcm16)).decode(), **audio}
    return Response(orjson.dumps(content), media_type="application/json")


async def _streamed(request: Request, utterance: Utterance, patience: Patience) -> Response:
    with ExitStack() as until_handed_over:
        until_handed_over.enter_context(utterance)
        frames = utterance.frames()
        first = await first_frame(request, utterance, frames)
        until_handed_over.pop_all()

    async def body() -> AsyncIterator[bytes]:
        yield wav_header() + first
        async for frame in frames:
            yield frame

    return SpeechResponse(body(), utterance, "audio/wav", patience)

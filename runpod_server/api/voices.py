"""GET, POST and DELETE /voices: the reference recordings behind named voices and speaker ids."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile

from runpod_server.api.utterance import Service
from runpod_server.errors import BadRequest
from runpod_server.voices.store import (
    MAX_RECORDING_BYTES,
    MAX_TRANSCRIPT_CHARS,
    ReferenceVoice,
    VoiceStore,
)

PATH = "/voices"
MAX_BODY_BYTES = MAX_RECORDING_BYTES + 12 * MAX_TRANSCRIPT_CHARS + 16_384


def voices_router(service: Service, store: VoiceStore) -> APIRouter:
    """GET, POST /voices; DELETE /voices/{name}."""
    router = APIRouter(tags=["voices"])

    @router.get(PATH, summary="The reference voices, and whether the engine speaks with them")
    async def listed() -> dict[str, object]:
        uses = service.engine.uses_references
        report: dict[str, object] = {
            "voices": [_report(voice) for voice in store.all()],
            "used_by_engine": uses,
            "writable": store.folder is not None,
        }
        if not uses:
            report["notice"] = (
                f"engine {service.engine.name} has voices of its own and ignores these recordings; "
                "a request that names one is spoken by the engine's voice for its speaker id"
            )
        if store.problems:
            report["problems"] = list(store.problems)
        return report

    @router.post(PATH, status_code=201, summary="Keep a voice: a recording of 3 to 30 s and its transcript")
    async def keep(
        name: Annotated[str, Form(description="1 to 63 of a-z, 0-9, - and _.")],
        transcript: Annotated[str, Form(description="What is said in the recording, word by word.")],
        recording: Annotated[UploadFile, File(description="WAV, 3 to 30 s of clear speech by one speaker.")],
        speaker_id: Annotated[str, Form(description="0 to 9, to bind that speaker to it.")] = "",
        description: Annotated[str, Form()] = "",
    ) -> dict[str, object]:
        content = await recording.read(MAX_RECORDING_BYTES + 1)
        if len(content) > MAX_RECORDING_BYTES:
            raise BadRequest(
                f"the recording is larger than {MAX_RECORDING_BYTES} bytes: export it as 24 kHz mono",
                field="recording",
            )
        voice = await asyncio.to_thread(
            store.put, name, content, transcript, speaker_id=_speaker(speaker_id), description=description
        )
        return {"success": True, "voice": _report(voice)}

    @router.delete(PATH + "/{name}", summary="Remove a voice; speech under way goes on")
    async def remove(name: str) -> dict[str, object]:
        await asyncio.to_thread(store.delete, name)
        return {"success": True}

    return router


def _report(voice: ReferenceVoice) -> dict[str, object]:
    return {
        "name": voice.name,
        "speaker_id": voice.speaker_id,
        "description": voice.description,
        "transcript": voice.transcript,
        "duration_ms": voice.duration_ms,
        "shipped": voice.shipped,
    }


def _speaker(form_value: str) -> int | None:
    if not form_value.strip():
        return None
    if not form_value.strip().isdecimal():
        raise BadRequest(f"speaker_id must be 0 to 9 or absent, not {form_value[:40]!r}", field="speaker_id")
    return int(form_value)

"""The stand-in's own API, under /sim: place a call, say how dials are answered, watch, fetch recordings."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from backend.core.g711 import Codec
from backend.simulator import refusal
from backend.simulator.call import SimCall
from backend.simulator.carrier import Carrier
from backend.simulator.media_leg import MediaFaults
from backend.simulator.playqueue import SAMPLES_PER_MS
from backend.simulator.script import parse_script

_Number = Annotated[str, Field(pattern=r"^(\+[1-9]\d{6,14}|sips?:\S+)$")]
_MAX_WAIT_S = 10.0


class Network(BaseModel):
    """What becomes of the caller's 20 ms frames on their way: chances from 0 to 1."""

    model_config = ConfigDict(extra="forbid")

    lose: float = Field(default=0.0, ge=0, le=1)
    shuffle: float = Field(default=0.0, ge=0, le=1)

    def faults(self) -> MediaFaults:
        return MediaFaults(lose=self.lose, shuffle=self.shuffle)


class PlaceCall(BaseModel):
    """Somebody calls the backend."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    to: _Number
    from_number: _Number = Field(alias="from")
    script: dict[str, Any] = Field(default_factory=dict)
    codec: Literal["PCMU", "PCMA"] = "PCMU"
    network: Network | None = None


class Answering(BaseModel):
    """How the next outbound dial is answered."""

    model_config = ConfigDict(extra="forbid")

    script: dict[str, Any] = Field(default_factory=dict)
    codec: Literal["PCMU", "PCMA"] = "PCMU"
    outcome: Literal["answer", "busy", "no_answer"] = "answer"
    answer_after_ms: int | None = Field(default=None, ge=0, le=600_000)
    network: Network | None = None


class Saying(BaseModel):
    """The caller says something, beside their script."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=1_000)
    noise_db: float | None = Field(default=None, ge=-60, le=0)


class Pressing(BaseModel):
    """The caller presses keys, beside their script."""

    model_config = ConfigDict(extra="forbid")

    digits: str = Field(min_length=1, max_length=64, pattern=r"^[0-9*#A-D]+$")


def sim_router(carrier: Carrier) -> APIRouter:
    """`/sim…`. Raises ScriptError, SpeechError and Refusal, which the server turns into answers."""
    router = APIRouter(prefix="/sim", tags=["Simulator"])

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "public_key": carrier.webhooks.public_key,
            "webhook_url": carrier.config.webhook_url,
            "live_calls": carrier.live_calls,
        }

    @router.post("/calls", status_code=201)
    async def place(body: PlaceCall) -> dict[str, str]:
        plan = await carrier.plan(
            parse_script(body.script),
            Codec[body.codec],
            faults=body.network.faults() if body.network else None,
        )
        call = carrier.ring(from_number=body.from_number, to_number=body.to, plan=plan)
        return {"call_control_id": call.call_control_id, "call_session_id": call.call_session_id}

    @router.post("/answering", status_code=201)
    async def answering(body: Answering) -> dict[str, int]:
        plan = await carrier.plan(
            parse_script(body.script),
            Codec[body.codec],
            outcome=body.outcome,
            answer_after_ms=body.answer_after_ms,
            faults=body.network.faults() if body.network else None,
        )
        return {"waiting": carrier.answer_next(plan)}

    @router.get("/calls")
    async def calls() -> dict[str, list[dict[str, Any]]]:
        return {"calls": [_summary(call) for call in carrier.calls]}

    @router.get("/calls/{call_control_id}")
    async def call(call_control_id: str) -> dict[str, Any]:
        found = carrier.call(call_control_id)
        return {**_summary(found), "record": found.record().to_json()}

    @router.get("/calls/{call_control_id}/audio.wav")
    async def audio(call_control_id: str) -> Response:
        line = carrier.call(call_control_id).conversation.line
        if not line.sound_kept:
            raise refusal.sound_given_up()
        return Response(await asyncio.to_thread(line.wav), media_type="audio/wav")

    @router.get("/calls/{call_control_id}/line")
    async def line(call_control_id: str, after: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
        call = carrier.call(call_control_id)
        talk = call.conversation
        return {
            "state": call.state,
            "now_ms": talk.line.now_ms,
            "quiet_ms": talk.quiet_ms,
            "caller_speaking": talk.line.caller_speaking,
            "heard": talk.heard[after:],
            "next": len(talk.heard),
        }

    @router.post("/calls/{call_control_id}/say")
    async def say(call_control_id: str, body: Saying) -> dict[str, float]:
        said = await carrier.say(call_control_id, body.text, noise_db=body.noise_db)
        return {"duration_ms": len(said.pcm16) / 2 / SAMPLES_PER_MS}

    @router.post("/calls/{call_control_id}/press")
    async def press(call_control_id: str, body: Pressing) -> dict[str, str]:
        carrier.call(call_control_id).press_by_caller(body.digits)
        return {"result": "ok"}

    @router.get("/recordings/{name}")
    async def recording(name: str, signature: str = "") -> Response:
        found, recorded = carrier.recording(name, signature)
        if not found.conversation.line.sound_kept:
            raise refusal.sound_given_up()
        sound = await asyncio.to_thread(found.recorder.sound, recorded)
        return Response(sound, media_type="audio/wav" if name.endswith(".wav") else "audio/mpeg")

    @router.post("/calls/{call_control_id}/hangup")
    async def hang_up(call_control_id: str) -> dict[str, str]:
        carrier.call(call_control_id).end_by_caller()
        return {"result": "ok"}

    @router.post("/calls/{call_control_id}/drop_media")
    async def drop_media(call_control_id: str) -> dict[str, str]:
        carrier.call(call_control_id).drop_media()
        return {"result": "ok"}

    @router.get("/events")
    async def events(
        after: Annotated[int, Query(ge=0)] = 0,
        wait_s: Annotated[float, Query(ge=0, le=_MAX_WAIT_S)] = _MAX_WAIT_S,
    ) -> dict[str, Any]:
        found = await carrier.events.wait_after(after, timeout_s=wait_s)
        return {"events": found, "next": found[-1]["seq"] if found else after}

    return router


def _summary(call: SimCall) -> dict[str, Any]:
    # A call is reported as ended only when its last words were recognised and its record is whole.
    state = "answered" if call.state == "ended" and not call.complete else call.state
    return {
        "call_control_id": call.call_control_id,
        "call_session_id": call.call_session_id,
        "direction": call.order.direction,
        "from": call.order.from_number,
        "to": call.order.to_number,
        "codec": call.plan.codec.value,
        "state": state,
        "hangup_cause": call.hangup_cause,
        "hangup_source": call.hangup_source,
        "script_error": call.script_error,
    }

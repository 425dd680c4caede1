"""GET /health: the exact JSON clients probe, and what the engine does. Without the key: the status only."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request

from runpod_server.api.guard import key_is_right
from runpod_server.api.speakers import bound_speakers, unbound_notice, unbound_speakers
from runpod_server.api.utterance import Service
from runpod_server.audio import SAMPLE_RATE_HZ


def package_version() -> str:
    """The installed version, or "unknown" in a bare source tree."""
    try:
        return version("sesame-telephony")
    except PackageNotFoundError:
        return "unknown"


def health_router(service: Service) -> APIRouter:
    """GET /health."""
    router = APIRouter(tags=["operation"])

    @router.get("/health", summary="Whether the server can speak now")
    async def health(request: Request) -> dict[str, object]:
        if not key_is_right(request.headers.raw, service.api_key):
            return {"status": service.engine.status().state}
        return health_report(service)

    return router


def health_report(service: Service) -> dict[str, object]:
    """Everything /health tells."""
    engine, status = service.engine, service.engine.status()
    report: dict[str, object] = {
        "status": status.state,
        "device": engine.device,
        "cuda": engine.device == "cuda",
        "model_loaded": status.state != "loading",
        "endpoints": {"websocket": "/ws/generate", "rest": "/generate"},
        "engine": engine.name,
        "model": engine.model,
        "sample_rate": SAMPLE_RATE_HZ,
        "streams": {
            "active": status.active,
            "free": status.capacity - status.active,
            "capacity": status.capacity,
        },
        "queue": {"waiting": status.waiting, "capacity": status.max_waiting},
        "speakers": {str(speaker): name for speaker, name in bound_speakers(engine).items()},
        "unbound_speakers": unbound_speakers(engine),
        "watermark": None,
        "version": package_version(),
    }
    if notices := [each for each in (engine.notice, unbound_notice(engine)) if each]:
        report["notice"] = " ".join(notices)
    return report

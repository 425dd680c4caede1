"""Prometheus figures of one server, and GET /metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from runpod_server.engine.request import Engine

_FIRST_AUDIO_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters fed by the endpoints, gauges read from the engine when asked."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sesame_requests", "Speech requests by endpoint and how they ended",
            ["endpoint", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.first_audio_s = Histogram(
            "sesame_first_audio_seconds", "From taking a request up to its first frame",
            ["endpoint"], registry=self.registry, buckets=_FIRST_AUDIO_BUCKETS,
        )  # fmt: skip
        self.audio_s = Counter("sesame_audio_seconds", "Seconds of speech sent", registry=self.registry)
        self.connections = Gauge("sesame_connections", "Open WebSockets", registry=self.registry)
        self._gauge("sesame_streams_active", "Streams that hold a slot", lambda: engine.status().active)
        self._gauge("sesame_streams_capacity", "Slots in all", lambda: engine.status().capacity)
        self._gauge("sesame_queue_waiting", "Requests that wait for a slot", lambda: engine.status().waiting)

    def _gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        Gauge(name, help_text, registry=self.registry).set_function(read)


def metrics_router(metrics: Metrics) -> APIRouter:
    """GET /metrics."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Prometheus figures", response_class=Response)
    async def read_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router

"""What Prometheus is told: calls, webhooks and how fast turns are answered. Counts what it is told to."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from backend.core.records import ENDED_STATES, CallState, Direction, TurnTimings

# Seconds; a turn should be answered within 0.9.
_TURN_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
_STAGES = ("caller_speech_ended_ms", "recognised_ms", "turn_ended_ms", "text_ready_ms", "first_chunk_ms",
           "first_frame_ms", "heard_ms")  # fmt: skip
# Anything else counts as "other", so that nobody can grow the number of time series.
_EVENTS = frozenset(
    "call.initiated call.answered call.bridged call.hangup call.dtmf.received call.machine.detection.ended "
    "call.machine.greeting.ended call.machine.premium.detection.ended call.machine.premium.greeting.ended "
    "call.recording.saved call.recording.error call.transcription call.cost call.playback.started "
    "call.playback.ended call.speak.started call.speak.ended streaming.started streaming.stopped "
    "streaming.failed".split()
)


class Metrics:
    """One process's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._live = Gauge(
            "voice_calls_live", "Calls under way.", ("direction", "state"), registry=self.registry
        )
        self._ended = Counter(
            "voice_calls", "Calls that are over, by how.", ("direction", "state"), registry=self.registry
        )
        self._webhooks = Counter(
            "voice_webhooks", "Webhooks received.", ("event", "outcome"), registry=self.registry
        )
        self._response = Histogram(
            "voice_turn_response_seconds",
            "From the end of the caller's speech to the agent's first sound.",
            registry=self.registry,
            buckets=_TURN_BUCKETS,
        )
        self._stage = Histogram(
            "voice_turn_stage_seconds",
            "One stage of answering a turn; `stage` is the moment it ends.",
            ("stage",),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.02, 0.05, *_TURN_BUCKETS),
        )

    def call_moved(self, direction: Direction, before: CallState | None, now: CallState) -> None:
        """A call came to state `now`; `before` None: it is new."""
        if before is not None and before not in ENDED_STATES:
            self._live.labels(direction, before).dec()
        if now not in ENDED_STATES:
            self._live.labels(direction, now).inc()
        elif before not in ENDED_STATES:
            self._ended.labels(direction, now).inc()

    def webhook(self, event_type: str, outcome: str) -> None:
        """A webhook came; `outcome`: accepted, duplicate, refused (not Telnyx's) or malformed."""
        self._webhooks.labels(event_type if event_type in _EVENTS else "other", outcome).inc()

    def turn_answered(self, timings: TurnTimings) -> None:
        """An agent's turn was heard; moments that are missing are passed over."""
        moments = [(name, at_ms) for name in _STAGES if (at_ms := getattr(timings, name)) is not None]
        for (_, began_ms), (name, ended_ms) in zip(moments, moments[1:], strict=False):
            self._stage.labels(name.removesuffix("_ms")).observe(max(0.0, ended_ms - began_ms) / 1000)
        if timings.caller_speech_ended_ms is not None and timings.heard_ms is not None:
            self._response.observe(max(0.0, timings.heard_ms - timings.caller_speech_ended_ms) / 1000)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def metrics_router(metrics: Metrics) -> APIRouter:
    """`GET /metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Prometheus' metrics."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router

"""What Prometheus is told: calls, webhooks and how fast turns are answered. Counts what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from backend.core.health import RouteHealth
from backend.core.records import ENDED_STATES, CallState, Direction, TurnTimings

# Seconds; a turn should be answered within 0.9.
_TURN_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
_STAGES = ("caller_speech_ended_ms", "recognised_ms", "turn_ended_ms", "text_ready_ms", "first_chunk_ms",
           "first_frame_ms", "heard_ms")  # fmt: skip
_BREAKERS = {"closed": 0.0, "half_open": 0.5, "open": 1.0}
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
        self._background = Counter(
            "voice_background_failures",
            "Background work that failed and was started anew.",
            ("work",),
            registry=self.registry,
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

        self._speech = Counter(
            "voice_speech_requests",
            "Requests to speech routes.",
            ("route", "outcome"),
            registry=self.registry,
        )
        self._first_audio = Histogram(
            "voice_speech_first_audio_seconds",
            "From asking a speech route to its first sound.",
            ("route",),
            registry=self.registry,
            buckets=(0.02, 0.05, *_TURN_BUCKETS),
        )
        self._failovers = Counter(
            "voice_speech_failovers",
            "Pieces of speech that went on by another route.",
            ("where",),
            registry=self.registry,
        )
        self._retries = Counter(
            "voice_speech_retries",
            "Pieces of speech that went on by the same route, which was asked again.",
            ("where",),
            registry=self.registry,
        )
        self._resumed = Counter(
            "voice_speech_words_resumed",
            "Words that were left to say when a route broke off in the middle of a piece.",
            registry=self.registry,
        )

        self._llm_turns = Counter(
            "voice_llm_turns",
            "Answers asked of language models; `wasted`: begun ahead of time and thrown away.",
            ("outcome",),
            registry=self.registry,
        )
        self._llm_tokens = Counter(
            "voice_llm_tokens",
            "Tokens of those answers, reckoned from their length where the server does not tell them.",
            ("outcome", "kind"),
            registry=self.registry,
        )
        self._hearing = Counter(
            "voice_hearing_requests",
            "Utterances given to speech-to-text routes.",
            ("route", "outcome"),
            registry=self.registry,
        )
        self._hearing_took = Histogram(
            "voice_hearing_seconds",
            "From asking a speech-to-text route to its words.",
            ("route",),
            registry=self.registry,
            buckets=(0.02, 0.05, *_TURN_BUCKETS),
        )
        self._hearing_failovers = Counter(
            "voice_hearing_failovers",
            "Utterances heard by a later route than the first that was asked.",
            registry=self.registry,
        )

    def watch_speech(self, health: Callable[[], Sequence[RouteHealth]]) -> None:
        """Show how the speech routes do, asked whenever metrics are."""
        self.registry.register(_SpeechRoutes(health))

    def watch_hearing(self, health: Callable[[], Sequence[RouteHealth]]) -> None:
        """Show how the speech-to-text routes do, asked whenever metrics are."""
        self.registry.register(_HearingRoutes(health))

    def background_failed(self, work: str) -> None:
        """Background work failed, and is started anew."""
        self._background.labels(work).inc()

    def llm_answered(self, outcome: str, prompt_tokens: int, completion_tokens: int) -> None:
        """An answer of a language model's is over; `outcome`: used, failed or wasted."""
        self._llm_turns.labels(outcome).inc()
        self._llm_tokens.labels(outcome, "prompt").inc(prompt_tokens)
        self._llm_tokens.labels(outcome, "completion").inc(completion_tokens)

    def hearing_request(self, route: str, outcome: str) -> None:
        """A speech-to-text route was asked; `outcome`: ok, cancelled, or why it failed."""
        self._hearing.labels(route, outcome).inc()

    def hearing_took(self, route: str, seconds: float) -> None:
        """It answered so long after asking."""
        self._hearing_took.labels(route).observe(seconds)

    def hearing_failed_over(self) -> None:
        """An utterance was heard by the next route."""
        self._hearing_failovers.inc()

    def speech_request(self, route: str, outcome: str) -> None:
        """A request to a speech route is over; `outcome`: ok, cancelled, or why it failed."""
        self._speech.labels(route, outcome).inc()

    def speech_first_audio(self, route: str, seconds: float) -> None:
        """The first sound of a request came so long after asking."""
        self._first_audio.labels(route).observe(seconds)

    def speech_failed_over(self, where: str, words_resumed: int) -> None:
        """A call went on by another route; `where` in a piece: begin or middle."""
        self._failovers.labels(where).inc()
        self._resumed.inc(words_resumed if where == "middle" else 0)

    def speech_retried(self, where: str, words_resumed: int) -> None:
        """A call went on by the same route, asked again."""
        self._retries.labels(where).inc()
        self._resumed.inc(words_resumed if where == "middle" else 0)

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


class _SpeechRoutes(Collector):
    """The speech routes' state at the moment of asking."""

    def __init__(self, health: Callable[[], Sequence[RouteHealth]]) -> None:
        self._health = health

    def describe(self) -> list[Metric]:
        return []  # told when collected: the routes are not known beforehand

    def collect(self) -> Iterator[Metric]:
        up, breaker, latency, free, capacity = (
            GaugeMetricFamily(f"voice_speech_route_{name}", about, labels=("route", "server"))
            for name, about in (
                ("up", "1: works; 0: does not, or is not known to."),
                ("breaker_open", "1: left alone for now; 0.5: the next request tries it."),
                ("latency_seconds", "A round trip to the server."),
                ("streams_free", "Requests that the server could speak at once, now."),
                ("streams_capacity", "Requests that the server can speak at once."),
            )
        )
        for labels, route in {(row.name, row.server or ""): row for row in reversed(self._health())}.items():
            up.add_metric(labels, float(route.state == "up"))
            breaker.add_metric(labels, _BREAKERS[route.breaker])
            for family, value in (
                (latency, None if route.latency_ms is None else route.latency_ms / 1000),
                (free, route.streams_free),
                (capacity, route.streams_capacity),
            ):
                if value is not None:
                    family.add_metric(labels, value)
        yield from (up, breaker, latency, free, capacity)


class _HearingRoutes(Collector):
    """The speech-to-text routes' state at the moment of asking."""

    def __init__(self, health: Callable[[], Sequence[RouteHealth]]) -> None:
        self._health = health

    def describe(self) -> list[Metric]:
        return []  # told when collected: the routes are not known beforehand

    def collect(self) -> Iterator[Metric]:
        labels = ("route", "server")
        up = GaugeMetricFamily(
            "voice_hearing_route_up", "1: hears; 0: does not, or was not asked yet.", labels=labels
        )
        breaker = GaugeMetricFamily(
            "voice_hearing_route_breaker_open",
            "1: left alone for now; 0.5: the next utterance tries it.",
            labels=labels,
        )
        for row in self._health():
            up.add_metric((row.name, row.server or ""), float(row.state == "up"))
            breaker.add_metric((row.name, row.server or ""), _BREAKERS[row.breaker])
        yield from (up, breaker)


def metrics_router(metrics: Metrics) -> APIRouter:
    """`GET /metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Prometheus' metrics."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router

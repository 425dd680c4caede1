"""What Prometheus is told of language models: requests, how soon they answer, which are left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.core.llm_health import LlmHealth
from backend.core.urls import plain_url

_BREAKERS = {"closed": 0.0, "half_open": 0.5, "open": 1.0}
_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0)


class LlmMetrics:
    """Those of one process, in its registry. A model's name is one of an agent's file: they are few."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "voice_llm_requests", "Requests to language models.", ("model", "outcome"), registry=registry
        )
        self._first_word = Histogram(
            "voice_llm_first_word_seconds",
            "From asking a language model to its first word.",
            ("model",),
            registry=registry,
            buckets=_BUCKETS,
        )

    def watch(self, health: Callable[[], Sequence[LlmHealth]]) -> None:
        """Show how the language models do, asked whenever metrics are."""
        self._registry.register(_Models(health))

    def llm_request(self, model: str, outcome: str) -> None:
        """A language model was asked; `outcome`: ok, cancelled, or why it failed."""
        self._requests.labels(model, outcome).inc()

    def llm_first_word(self, model: str, seconds: float) -> None:
        """From asking to the first word."""
        self._first_word.labels(model).observe(seconds)


class _Models(Collector):
    """The language models' state at the moment of asking."""

    def __init__(self, health: Callable[[], Sequence[LlmHealth]]) -> None:
        self._health = health

    def describe(self) -> list[Metric]:
        return []  # told when collected: the models are not known beforehand

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "server", "key")
        up = GaugeMetricFamily(
            "voice_llm_up", "1: answers; 0: does not, or was not asked yet.", labels=labels
        )
        breaker = GaugeMetricFamily(
            "voice_llm_breaker_open", "1: left alone for now; 0.5: the next turn tries it.", labels=labels
        )
        rows = {(row.model, plain_url(row.server), row.key or ""): row for row in self._health()}
        for whose, row in rows.items():
            up.add_metric(whose, float(row.state == "up"))
            breaker.add_metric(whose, _BREAKERS[row.breaker])
        yield from (up, breaker)

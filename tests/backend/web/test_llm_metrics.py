"""What Prometheus is told of language models."""

from __future__ import annotations

from backend.core.llm_health import LlmHealth
from backend.web.llm_metrics import LlmMetrics
from backend.web.metrics import Metrics


def test_requests_are_counted_and_models_are_shown_as_they_are_then() -> None:
    metrics = Metrics()
    models = LlmMetrics(metrics.registry)
    models.llm_request("gpt", "timeout")
    models.llm_first_word("gpt", 0.4)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("voice_llm_requests_total", model="gpt", outcome="timeout") == 1
    assert value("voice_llm_first_word_seconds_sum", model="gpt") == 0.4
    server = "http://user:password@models.example/v1"
    rows = [
        LlmHealth("gpt", server, "down", "Does not answer", "OPENAI_API_KEY", "open"),
        LlmHealth("gpt", server, "up", "works", "ROUTER_KEY"),
    ]
    models.watch(lambda: rows)
    where = {"model": "gpt", "server": "http://models.example/v1"}
    assert value("voice_llm_up", **where, key="OPENAI_API_KEY") == 0
    assert value("voice_llm_breaker_open", **where, key="OPENAI_API_KEY") == 1
    assert value("voice_llm_up", **where, key="ROUTER_KEY") == 1
    assert value("voice_llm_breaker_open", **where, key="ROUTER_KEY") == 0
    assert b"password" not in metrics.text()

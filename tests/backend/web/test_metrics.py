from __future__ import annotations

from backend.core.health import RouteHealth
from backend.core.records import TurnTimings
from backend.web.metrics import Metrics


async def test_metrics_are_shown(backend, client) -> None:
    backend.metrics.call_moved("inbound", None, "ringing")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'voice_calls_live{direction="inbound",state="ringing"} 1.0' in answer.text


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_calls_way_is_counted() -> None:
    metrics = Metrics()
    metrics.call_moved("inbound", None, "ringing")
    metrics.call_moved("inbound", "ringing", "in_progress")
    assert value(metrics, "voice_calls_live", direction="inbound", state="ringing") == 0
    assert value(metrics, "voice_calls_live", direction="inbound", state="in_progress") == 1
    metrics.call_moved("inbound", "in_progress", "ended")
    metrics.call_moved("inbound", "ended", "ended")
    metrics.call_moved("outbound", None, "failed")
    assert value(metrics, "voice_calls_live", direction="inbound", state="in_progress") == 0
    assert value(metrics, "voice_calls_total", direction="inbound", state="ended") == 1
    assert value(metrics, "voice_calls_total", direction="outbound", state="failed") == 1


def test_turns_are_measured_by_stage() -> None:
    metrics = Metrics()
    metrics.turn_answered(
        TurnTimings(caller_speech_ended_ms=1000, recognised_ms=1100, first_chunk_ms=1400, heard_ms=1650)
    )
    metrics.turn_answered(TurnTimings(first_chunk_ms=10, heard_ms=5))
    assert value(metrics, "voice_turn_response_seconds_sum") == 0.65
    assert value(metrics, "voice_turn_response_seconds_count") == 1
    assert value(metrics, "voice_turn_stage_seconds_sum", stage="recognised") == 0.1
    assert value(metrics, "voice_turn_stage_seconds_sum", stage="first_chunk") == 0.3
    assert value(metrics, "voice_turn_stage_seconds_count", stage="heard") == 2


def test_unknown_events_do_not_add_series() -> None:
    metrics = Metrics()
    for number in range(3):
        metrics.webhook(f"made.up.{number}", "accepted")
    metrics.webhook("call.answered", "duplicate")
    assert value(metrics, "voice_webhooks_total", event="other", outcome="accepted") == 3
    assert value(metrics, "voice_webhooks_total", event="call.answered", outcome="duplicate") == 1


def test_two_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.webhook("call.answered", "accepted")
    assert value(other, "voice_webhooks_total", event="call.answered", outcome="accepted") is None


def test_speech_is_counted() -> None:
    metrics = Metrics()
    metrics.speech_request("sesame_ws", "ok")
    metrics.speech_request("sesame_ws", "timeout")
    metrics.speech_first_audio("sesame_ws", 0.25)
    metrics.speech_failed_over("begin", 0)
    metrics.speech_failed_over("middle", 6)
    metrics.speech_retried("begin", 4)
    metrics.speech_retried("middle", 3)
    assert value(metrics, "voice_speech_requests_total", route="sesame_ws", outcome="timeout") == 1
    assert value(metrics, "voice_speech_first_audio_seconds_sum", route="sesame_ws") == 0.25
    assert value(metrics, "voice_speech_failovers_total", where="middle") == 1
    assert value(metrics, "voice_speech_retries_total", where="begin") == 1
    assert value(metrics, "voice_speech_retries_total", where="middle") == 1
    assert value(metrics, "voice_speech_words_resumed_total") == 9


def test_the_state_of_the_speech_routes_is_shown_as_it_is_then() -> None:
    metrics = Metrics()
    rows = [
        RouteHealth("sesame_ws", "up", "works", 4.0, "http://a", streams_free=3, streams_capacity=32),
        RouteHealth("elevenlabs", "down", "Out of quota", None, "https://b", "open"),
        RouteHealth("elevenlabs", "down", "voice mara: unknown", None, "https://b", "half_open"),
    ]
    metrics.watch_speech(lambda: rows)
    here = {"route": "sesame_ws", "server": "http://a"}
    there = {"route": "elevenlabs", "server": "https://b"}
    assert value(metrics, "voice_speech_route_up", **here) == 1
    assert value(metrics, "voice_speech_route_latency_seconds", **here) == 0.004
    assert value(metrics, "voice_speech_route_streams_free", **here) == 3
    assert value(metrics, "voice_speech_route_up", **there) == 0
    assert value(metrics, "voice_speech_route_breaker_open", **there) == 1
    assert value(metrics, "voice_speech_route_latency_seconds", **there) is None
    rows.clear()
    assert value(metrics, "voice_speech_route_up", **here) is None
    assert b"voice_speech_route_up" in metrics.text()


def test_hearing_is_counted_and_its_routes_are_shown_as_they_are_then() -> None:
    metrics = Metrics()
    metrics.hearing_request("openai", "timeout")
    metrics.hearing_took("local", 0.09)
    metrics.hearing_failed_over()
    assert value(metrics, "voice_hearing_requests_total", route="openai", outcome="timeout") == 1
    assert value(metrics, "voice_hearing_seconds_sum", route="local") == 0.09
    assert value(metrics, "voice_hearing_failovers_total") == 1
    rows = [
        RouteHealth("local", "up", "works", server="this machine"),
        RouteHealth("openai", "down", "Too slow", server="http://a", breaker="open"),
    ]
    metrics.watch_hearing(lambda: rows)
    assert value(metrics, "voice_hearing_route_up", route="local", server="this machine") == 1
    assert value(metrics, "voice_hearing_route_up", route="openai", server="http://a") == 0
    assert value(metrics, "voice_hearing_route_breaker_open", route="openai", server="http://a") == 1

"""The terminal and the transcript tell what happened, markup-looking words included."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from backend.simulator.call_run import Moment
from backend.simulator.report import CallReport, Expected, build_report
from backend.simulator.show import ConversationView, print_report, transcript

OFFER = "We have Tuesday at two, or Wednesday at ten."


def report() -> CallReport:
    timings = {
        "caller_speech_ended_ms": 2_000, "recognised_ms": 2_100, "turn_ended_ms": 2_320,
        "text_ready_ms": 2_321, "first_chunk_ms": 2_350, "first_frame_ms": 2_352, "heard_ms": 2_400,
    }  # fmt: skip
    turns: list[dict[str, Any]] = [
        {"index": 0, "role": "caller", "text": "An apartment.", "heard_text": "An apartment.",
         "started_ms": 1_000, "ended_ms": 2_000, "interrupted": False, "via": "speech"},
        {"index": 1, "role": "agent", "text": OFFER, "heard_text": "We have Tuesday", "started_ms": 2_400,
         "ended_ms": 3_400, "node_id": "offer", "interrupted": True, "timings": timings},
        {"index": 2, "role": "caller", "text": "1", "heard_text": "1", "started_ms": 5_000,
         "ended_ms": 5_000, "interrupted": False, "via": "dtmf"},
    ]  # fmt: skip
    events = [
        {"t_ms": 1_000, "kind": "caller_speech", "data": speech(1_000, 2_000, "An appointment.")},
        {"t_ms": 2_400, "kind": "agent_speech", "data": speech(2_400, 3_400, "we have Tuesday")},
        {"t_ms": 6_000, "kind": "hangup", "data": {"by": "agent", "cause": "normal_clearing"}},
    ]
    line = {"direction": "inbound", "codec": "PCMU", "duration_ms": 6_000, "events": events}
    return build_report(line, {"state": "ended", "turns": turns}, Expected(ends="caller"))


def speech(start_ms: float, end_ms: float, text: str) -> dict[str, Any]:
    return {"start_ms": start_ms, "end_ms": end_ms, "text": text}


def printed(*moments: Moment) -> str:
    out = io.StringIO()
    view = ConversationView(Console(file=out, width=120))
    for moment in moments:
        view(moment)
    return out.getvalue()


def test_transcript_tells_what_was_heard_and_what_was_not() -> None:
    text = transcript(report(), "A call")
    assert "agent:   We have Tuesday — interrupted; not heard: “at two, or Wednesday at ten.”" in text
    assert "caller:  An appointment.  (recognised: “An apartment.”)" in text
    assert "[keys 1]" in text
    assert "→ offer" in text
    assert "NOT  the flow reached its end: the agent hung up (the caller hangs up)" in text


def test_tables_hold_every_step_and_every_verdict() -> None:
    out = io.StringIO()
    print_report(Console(file=out, width=140), report())
    text = out.getvalue()
    row = next(line for line in text.splitlines() if line.startswith("offer"))
    assert row.split()[1:] == ["100", "320", "321", "350", "352", "400", "400"]
    assert "first chunk → first frame: p95 2.0 ms over 1 turns" in text
    assert text.count("✓") + text.count("✗") == len(report().verdicts)
    assert "✗" in text


def test_conversation_is_told_as_it_happens() -> None:
    timings = {"caller_speech_ended_ms": 100.0, "heard_ms": 420.0}
    text = printed(
        Moment("ringing", None, {"to": "+15550100001"}),
        Moment("agent_speech", 400.0, speech(400, 2_000, "Hello there.")),
        Moment("turn", 2_000.0, {"node_id": "greet", "interrupted": True, "timings": timings}),
        Moment("interrupt", 65_200.0, {"speech_start_ms": 65_000.0, "last_agent_audio_ms": 65_180.0}),
        Moment("dtmf", 66_000.0, {"by": "caller", "digit": "1"}),
        Moment("dtmf", 66_250.0, {"by": "caller", "digit": "#"}),
        Moment("hangup", 67_000.0, {"by": "agent", "cause": "normal_clearing"}),
    )
    assert "ringing +15550100001" in text
    assert "0:00.4  agent   Hello there." in text
    assert "╰ greet, 320 ms after the caller, interrupted" in text
    assert "1:05.2" in text
    assert "after 180 ms" in text
    assert "1:06.0  caller presses 1 #\n" in text
    assert "agent hangs up" in text


def test_unknown_moments_and_turns_without_a_node_are_passed_over() -> None:
    assert printed(Moment("something_new", 3.0, {}), Moment("turn", 4.0, {"node_id": None})) == ""


def test_words_that_look_like_markup_are_shown_as_they_are() -> None:
    assert "[bold]not[/bold] markup" in printed(
        Moment("agent_speech", 1.0, speech(0, 1, "[bold]not[/bold] markup"))
    )

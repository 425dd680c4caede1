"""The report judges a call from the line's and the backend's records alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from backend.simulator.report import Expected, Verdict, build_report

GREETING = "Hello, this is the front desk."
OFFER = "We have Tuesday at 2 p.m., or Wednesday at ten."


def event(t_ms: float, kind: str, **data: object) -> dict[str, Any]:
    return {"t_ms": t_ms, "kind": kind, "data": data}


def turn(
    index: int, role: str, text: str, started_ms: float, ended_ms: float, **more: object
) -> dict[str, Any]:
    base: dict[str, Any] = {
        "index": index, "role": role, "text": text, "heard_text": text, "started_ms": started_ms,
        "ended_ms": ended_ms, "node_id": None, "via": "speech", "interrupted": False, "route": None,
        "timings": {},
    }  # fmt: skip
    return base | more


@pytest.fixture
def line() -> dict[str, Any]:
    return {
        "direction": "inbound",
        "codec": "PCMU",
        "duration_ms": 9_000.0,
        "events": [
            event(0, "answered"),
            event(2_300, "agent_speech", start_ms=300, end_ms=2_200, text="hello this is the front desk"),
            event(4_000, "caller_speech", start_ms=2_800, end_ms=4_000, text="I need an appointment"),
            event(7_000, "agent_speech", start_ms=4_650, end_ms=6_380, text="we have Tuesday at two PM or"),
            event(6_200, "interrupt", speech_start_ms=6_200, last_agent_audio_ms=6_380),
            event(6_900, "caller_speech", start_ms=6_200, end_ms=6_900, text="Tuesday"),
            event(7_400, "dtmf", digit="1", by="caller"),
            event(8_900, "hangup", by="agent", cause="normal_clearing"),
        ],
    }


@pytest.fixture
def call() -> dict[str, Any]:
    offered = {
        "caller_speech_ended_ms": 4_010, "recognised_ms": 4_300, "turn_ended_ms": 4_510,
        "text_ready_ms": 4_512, "first_chunk_ms": 4_600, "first_frame_ms": 4_604, "heard_ms": 4_650,
    }  # fmt: skip
    return {
        "state": "ended",
        "error": None,
        "turns": [
            turn(0, "agent", GREETING, 300, 2_200, node_id="greet"),
            turn(1, "caller", "I need an appointment", 2_800, 4_010),
            turn(
                2, "agent", OFFER, 4_650, 6_380,
                node_id="offer", interrupted=True, timings=offered,
                heard_text="We have Tuesday at 2 p.m., or",
            ),
            turn(3, "caller", "1", 7_400, 7_400, via="dtmf"),
        ],
    }  # fmt: skip


EXPECTED = Expected(nodes=("greet", "offer"), interruptions=1, ends="agent")


def verdict(report_line: dict[str, Any], report_call: dict[str, Any], name: str) -> Verdict:
    report = build_report(report_line, report_call, EXPECTED)
    return next(verdict for verdict in report.verdicts if name in verdict.name)


def test_a_good_call_holds(line: dict[str, Any], call: dict[str, Any]) -> None:
    report = build_report(line, call, EXPECTED)
    assert report.broken() == ()
    assert report.words.rate == 0
    assert report.nodes == ("greet", "offer")
    assert report.keys == ((7_400, "1"),)
    assert report.ending == "the agent hung up"
    assert [span.role for span in report.spans] == ["agent", "caller", "agent", "caller"]


def test_latencies_are_counted_from_the_end_of_the_callers_speech(
    line: dict[str, Any], call: dict[str, Any]
) -> None:
    (answer,) = build_report(line, call, EXPECTED).answers
    assert answer.line_ms == 650
    assert (answer.recognised_ms, answer.turn_ended_ms, answer.first_chunk_ms) == (290, 500, 590)
    assert (answer.first_frame_ms, answer.heard_ms) == (594, 640)


def test_lost_words_break_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"][3]["data"]["text"] = "we have at PM or"
    judged = verdict(line, call, "word errors")
    assert not judged.ok
    assert judged.severity == "hard"
    assert "[-tuesday]" in judged.detail


def test_silence_on_both_sides_is_not_a_pass(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"] = [event for event in line["events"] if event["kind"] != "agent_speech"]
    for recorded in call["turns"]:
        recorded["heard_text"] = ""
    assert not verdict(line, call, "word errors").ok


def test_a_gap_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"].append(event(1_000, "underrun", ms=45))
    judged = verdict(line, call, "gaps")
    assert not judged.ok
    assert judged.detail == "45 ms"


def test_a_slow_barge_in_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"][4]["data"]["last_agent_audio_ms"] = 6_500
    assert not verdict(line, call, "barge-in").ok


def test_a_barge_in_that_never_happened_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    del line["events"][4]
    judged = verdict(line, call, "barge-in")
    assert not judged.ok
    assert "1 interruption(s) planned, 0 happened" in judged.detail


def test_slowness_is_forgiven_only_when_lenient(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"][3]["data"]["start_ms"] = 5_000
    call["turns"][2]["timings"]["first_frame_ms"] = 4_700
    report = build_report(line, call, EXPECTED)
    assert len(report.broken()) == 2
    assert report.broken(lenient_latency=True) == ()


@pytest.mark.parametrize("end", ["transfer", "caller"])
def test_another_ending_than_expected_breaks_it(line: dict[str, Any], call: dict[str, Any], end: str) -> None:
    line["events"].pop()
    if end == "transfer":
        line["events"].append(event(8_000, "transfer", to="+15550100099"))
    line["events"].append(event(8_900, "hangup", by="caller", cause="normal_clearing"))
    assert not verdict(line, call, "flow reached").ok


def test_a_call_the_backend_lost_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    judged = verdict(line, call | {"state": "failed", "error": "the speech server went away"}, "flow reached")
    assert not judged.ok
    assert "the speech server went away" in judged.detail


def test_a_node_left_out_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    other = copy.deepcopy(call)
    other["turns"][2]["node_id"] = "fallback"
    judged = verdict(line, other, "nodes")
    assert not judged.ok
    assert "was greet → fallback" in judged.detail


def test_no_answers_at_all_is_not_fast(line: dict[str, Any], call: dict[str, Any]) -> None:
    call["turns"][2]["timings"] = {}
    judged = verdict(line, call, "first sound")
    assert not judged.ok
    assert judged.figure == "never"


def test_a_caller_who_gave_up_breaks_it(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"].insert(6, event(7_000, "script_failed", reason="never heard 'goodbye'"))
    judged = verdict(line, call, "flow reached")
    assert not judged.ok
    assert judged.detail == "the caller gave up: never heard 'goodbye'"


def test_talking_over_the_caller_does_not_count_as_fast(line: dict[str, Any], call: dict[str, Any]) -> None:
    line["events"][2]["data"]["end_ms"] = 4_900
    report = build_report(line, call, EXPECTED)
    assert [answer.line_ms for answer in report.answers] == [-250]
    assert verdict(line, call, "first sound").figure == "never"

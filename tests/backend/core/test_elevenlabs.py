"""ElevenLabs' refusals and alignments, as seen in the wild."""

from __future__ import annotations

from typing import Any

import pytest

from backend.core.elevenlabs import Aligner, refusal
from backend.core.speech import CharMark


def detail(**fields: str) -> dict[str, Any]:
    return {"detail": fields}


@pytest.mark.parametrize(
    ("status", "body", "reason", "hint"),
    [
        (401, detail(status="quota_exceeded", message="You have 3 credits left."), "quota", "3 credits"),
        (
            401,
            detail(status="invalid_api_key", message="Invalid API key"),
            "unauthorized",
            "ELEVENLABS_API_KEY",
        ),
        (401, detail(status="missing_permissions", message="no tts"), "unauthorized", "no tts"),
        (401, detail(code="detected_unusual_activity"), "unauthorized", "HTTP 401"),
        (402, detail(type="payment_required", code="paid_plan"), "quota", "credit"),
        (404, detail(type="not_found", code="voice_not_found"), "unknown_voice", "voice_id"),
        (400, detail(status="voice_not_found"), "unknown_voice", "voice_id"),
        (429, detail(status="too_many_concurrent_requests"), "rate_limited", "plan"),
        (429, detail(type="rate_limit_error", code="concurrent_limit_exceeded"), "rate_limited", "plan"),
        (429, detail(status="system_busy"), "busy", "overloaded"),
        (422, detail(message="text too long"), "bad_request", "text too long"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "bad_request", "bad"),
        (500, "oops", "generation_failed", "oops"),
        (503, "", "busy", "503"),
        (None, {"message": "No.", "error": "quota_exceeded", "code": 1008}, "quota", "No."),
        (None, {"message": "No.", "error": "voice_id_does_not_exist", "code": 1008}, "unknown_voice", "No."),
        (None, {"message": "x", "error": "authentication_required", "code": 1008}, "unauthorized", "KEY"),
        (None, {"error": "A voice with the voice_id x does not exist."}, "unknown_voice", "voice_id"),
        (None, {"error": "Invalid API key"}, "unauthorized", "KEY"),
        (None, {"message": "x", "error": "something_new", "code": 1008}, "generation_failed", "x"),
        (None, None, "generation_failed", ""),
    ],
)
def test_what_it_refuses_and_why(status: int | None, body: object, reason: str, hint: str) -> None:
    told, sentence = refusal(status, body)
    assert told == reason
    assert hint in sentence


def aligned(text: str, *, start: int = 0, name: str = "charStartTimesMs", step: int = 10) -> dict[str, Any]:
    return {"chars": list(text), name: [start + step * i for i in range(len(text))]}


def test_times_are_made_absolute_and_characters_counted_on() -> None:
    aligner = Aligner("Hi you.")
    first = aligner.marks(aligned(" Hi "), 0)
    second = aligner.marks(aligned("you. "), 200)
    assert first == (CharMark(0, 10), CharMark(1, 20), CharMark(2, 30))
    assert second == (CharMark(3, 200), CharMark(4, 210), CharMark(5, 220), CharMark(6, 230))


def test_characters_of_its_own_are_passed_over() -> None:
    marks = Aligner("5 men").marks(aligned("§5  men"), 0)
    assert [mark.character for mark in marks] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["charDurationsMs", "charsDurationsMs"])
def test_durations_alone_will_do(name: str) -> None:
    marks = Aligner("abc").marks({"chars": ["a", "b", "c"], name: [5, 7, 9]}, 100)
    assert [mark.at_ms for mark in marks] == [100, 105, 112]


@pytest.mark.parametrize(
    "alignment",
    [None, [], {}, {"chars": "abc"}, {"chars": ["a", "b"], "charStartTimesMs": [1]},
     {"chars": ["a"], "charStartTimesMs": ["x"]}, {"chars": [7], "charStartTimesMs": [1]}],
)  # fmt: skip
def test_a_malformed_alignment_is_none(alignment: object) -> None:
    assert Aligner("abc").marks(alignment, 0) == ()

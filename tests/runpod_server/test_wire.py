from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server import wire
from runpod_server.errors import BadRequest, Busy, GenerationFailed, NotReady, OutOfMemory

CONTRACT = Path(__file__).parents[1] / "contract"
REQUESTS: dict[str, Any] = json.loads((CONTRACT / "speech_requests.json").read_text("utf-8"))
REPLIES: dict[str, Any] = json.loads((CONTRACT / "speech_replies.json").read_text("utf-8"))
LIMITS = wire.Limits()
ERRORS = {each.code: each for each in (BadRequest, Busy, NotReady, OutOfMemory, GenerationFailed)}


def parse(message: str) -> wire.Generate | wire.Heard | wire.Cancel:
    return wire.parse(message, LIMITS, "fallback")


@pytest.mark.parametrize("case", REQUESTS["accepted"], ids=lambda case: case["name"])
def test_accepted(case: dict[str, Any]) -> None:
    given_fields = json.loads(case["message"])
    asked = parse(case["message"])
    assert isinstance(asked, wire.Generate)
    assert asked.request.text == given_fields["text"]
    assert asked.request.speaker_id == (given_fields.get("speaker_id") or 0)
    assert asked.request.request_id == (given_fields.get("request_id") or "fallback")
    assert asked.chunk_samples == given_fields.get("chunk_samples", 4800)
    assert asked.request.max_audio_ms == given_fields.get("max_audio_length_ms")
    assert asked.request.seed == given_fields.get("seed")
    assert asked.request.temperature == given_fields.get("temperature")


@pytest.mark.parametrize("case", REQUESTS["heard"], ids=lambda case: case["name"])
def test_heard(case: dict[str, Any]) -> None:
    given_fields = json.loads(case["message"])
    heard = parse(case["message"])
    assert isinstance(heard, wire.Heard)
    assert (heard.context_id, heard.text) == (given_fields["context_id"], given_fields["heard"]["text"])
    assert heard.speaker_id == case["speaker_id"]
    assert heard.request_id == (given_fields.get("request_id") or "fallback")
    assert b64encode(heard.audio).decode() == given_fields["heard"]["audio"]


@pytest.mark.parametrize("case", REPLIES["noted"], ids=lambda case: case["name"])
def test_noted_byte_for_byte(case: dict[str, Any]) -> None:
    heard = wire.Heard(case["context_id"], "Hi.", 9, b"", case["request_id"])
    assert wire.noted(heard, kept=case["noted"]) == case["message"]


@pytest.mark.parametrize(
    "heard, says",
    [
        ({"text": "Hi.", "audio": "A" * 2_000_004}, "heard.audio is larger than 1500000 bytes"),
        ({"text": "Hi.", "audio": "Ä" * 4}, "heard.audio is not base64"),
        ({"text": "Hi.", "audio": "AAA"}, "heard.audio is not base64"),
        ({"text": "x" * 1001, "audio": "AAAA"}, "heard.text has 1001 characters"),
        ({"text": " ", "audio": "AAAA"}, "heard.text is empty"),
    ],
)
def test_what_cannot_have_been_heard_is_named(heard: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as refused:
        parse(json.dumps({"context_id": "call", "heard": heard}))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("case", REQUESTS["cancels"], ids=lambda case: case["name"])
def test_cancels(case: dict[str, Any]) -> None:
    assert parse(case["message"]) == wire.Cancel(case["request_id"])


@pytest.mark.parametrize("case", REQUESTS["refused"], ids=lambda case: case["name"])
def test_refused_with_the_field_and_the_id(case: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(case["message"])
    assert case["says"] in str(refused.value)
    assert refused.value.request_id == case["request_id"]


@pytest.mark.parametrize("case", REPLIES["done"], ids=lambda case: case["name"])
def test_done_byte_for_byte(case: dict[str, Any]) -> None:
    names = ("request_id", "reason", "audio_ms", "first_audio_ms", "generate_ms")
    assert wire.done(wire.Summary(**{name: case[name] for name in names})) == case["message"]


@pytest.mark.parametrize("case", REPLIES["errors"], ids=lambda case: case["name"])
def test_error_byte_for_byte(case: dict[str, Any]) -> None:
    failure = ERRORS[case["error"]](json.loads(case["message"])["message"])
    assert wire.error(failure, case["request_id"]) == case["message"]


def test_text_beyond_the_limit_is_refused_with_both_figures() -> None:
    limits = wire.Limits(max_text_chars=10)
    assert wire.parse('{"text": "0123456789"}', limits, "id")
    with pytest.raises(BadRequest, match="11 characters .* takes 10"):
        wire.parse('{"text": "01234567890"}', limits, "id")


def test_binary_is_refused() -> None:
    with pytest.raises(BadRequest, match="as JSON text"):
        wire.parse(b'{"text": "Hello."}', LIMITS, "id")


def test_voice_id_is_a_speaker_or_a_name() -> None:
    assert wire.with_voice_id({"voice_id": "4"}) == {"speaker_id": 4}
    assert wire.with_voice_id({"voice_id": 4}) == {"speaker_id": 4}
    assert wire.with_voice_id({"voice_id": "heart", "text": "x"}) == {"voice": "heart", "text": "x"}
    assert wire.with_voice_id({"text": "x"}) == {"text": "x"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
field_names = st.sampled_from(
    ["text", "speaker_id", "voice", "request_id", "chunk_samples", "max_audio_length_ms", "temperature",
     "top_k", "seed", "context_id", "cancel", "speed", "heard", "else"]
)  # fmt: skip


@given(st.dictionaries(field_names, json_values))
def test_any_object_is_understood_or_refused_within_bounds(fields: dict[str, Any]) -> None:
    try:
        asked = parse(json.dumps(fields))
    except BadRequest as refused:
        assert str(refused) and len(str(refused)) < 300
        return
    if isinstance(asked, wire.Generate):
        request = asked.request
        assert request.text.strip()
        assert request.speaker_id in range(10)
        assert 480 <= asked.chunk_samples <= 24_000
        assert 1 <= len(request.request_id) <= 128
        assert request.max_audio_ms is None or 80 <= request.max_audio_ms <= 600_000
        assert request.temperature is None or 0 <= request.temperature <= 2
        assert 0.25 <= request.speed <= 4


@given(st.text())
def test_any_text_frame_is_understood_or_refused(message: str) -> None:
    try:
        parse(message)
    except BadRequest as refused:
        assert str(refused)


@given(
    request_id=st.text(min_size=1), audio_ms=st.integers(0, 10**7), first=st.none() | st.integers(0, 10**6)
)
def test_done_reads_back(request_id: str, audio_ms: int, first: int | None) -> None:
    summary = wire.Summary(request_id, "eos", audio_ms, first, 5)
    fields = json.loads(wire.done(summary))
    assert fields.pop("done") is True
    assert wire.Summary(**fields) == summary


@given(st.text(), st.none() | st.text(min_size=1))
def test_error_reads_back(message: str, request_id: str | None) -> None:
    fields = json.loads(wire.error(Busy(message), request_id))
    assert fields == {"error": "busy", "message": message, "request_id": request_id}

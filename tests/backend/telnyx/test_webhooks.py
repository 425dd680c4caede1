from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from backend.errors import ConfigError, WebhookRejected
from backend.telnyx.webhooks import SeenEvents, TelnyxEvent, WebhookVerifier, heard_words, parse_event

NOW_S = 1_772_366_400.0
KEY = SigningKey(b"\x07" * 32)
PUBLIC_KEY = base64.b64encode(KEY.verify_key.encode()).decode()
BODY = json.dumps(
    {
        "data": {
            "record_type": "event",
            "event_type": "call.initiated",
            "id": "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",
            "occurred_at": "2026-03-01T12:00:00.123456Z",
            "payload": {
                "call_control_id": "v3:abc",
                "call_leg_id": "leg",
                "call_session_id": "session",
                "client_state": base64.b64encode(b"call-1").decode(),
                "direction": "incoming",
                "from": "+15550100001",
                "to": "+15550100002",
            },
        },
        "meta": {"attempt": 1, "delivered_to": "https://example.com/webhooks/telnyx"},
    }
).encode()


def sign(body: bytes = BODY, *, at_s: float = NOW_S, key: SigningKey = KEY) -> tuple[str, str]:
    timestamp = str(int(at_s))
    return base64.b64encode(key.sign(f"{timestamp}|".encode() + body).signature).decode(), timestamp


def verify(body: bytes, signature: str, timestamp: str, *, now_s: float = NOW_S) -> None:
    WebhookVerifier(PUBLIC_KEY).verify(body, signature=signature, timestamp=timestamp, now_s=now_s)


@given(st.binary(max_size=400), st.floats(-300, 300))
def test_what_telnyx_signed_is_taken(body: bytes, late_s: float) -> None:
    verify(body, *sign(body), now_s=NOW_S + late_s)


def refused(body: bytes, signature: str, timestamp: str, *, now_s: float = NOW_S) -> str:
    with pytest.raises(WebhookRejected) as caught:
        verify(body, signature, timestamp, now_s=now_s)
    assert caught.value.status == 401
    return str(caught.value)


def test_a_changed_body_is_refused() -> None:
    signature, timestamp = sign()
    assert "does not match its body" in refused(BODY.replace(b"incoming", b"outgoing"), signature, timestamp)
    assert "does not match its body" in refused(BODY + b" ", signature, timestamp)


def test_the_time_is_signed_too() -> None:
    signature, _ = sign(at_s=NOW_S - 5000)
    assert "does not match" in refused(BODY, signature, str(int(NOW_S)))


def test_another_key_is_refused() -> None:
    said = refused(BODY, *sign(key=SigningKey(b"\x08" * 32)))
    assert "TELNYX_PUBLIC_KEY" in said


@pytest.mark.parametrize(
    ("off_s", "said"), [(301, "301 s old"), (-301, "301 s ahead of this machine's clock")]
)
def test_stale_and_future_ones_are_refused(off_s: int, said: str) -> None:
    assert said in refused(BODY, *sign(at_s=NOW_S - off_s))
    verify(BODY, *sign(at_s=NOW_S - off_s + (1 if off_s > 0 else -1)))


@pytest.mark.parametrize(
    ("signature", "timestamp", "said"),
    [
        ("", str(int(NOW_S)), "carries no telnyx-signature-ed25519"),
        (sign()[0], "", "carries no"),
        ("no base64!", str(int(NOW_S)), "not an Ed25519 signature"),
        ("é" * 88, str(int(NOW_S)), "not an Ed25519 signature"),
        (base64.b64encode(b"short").decode(), str(int(NOW_S)), "not an Ed25519 signature"),
        (sign()[0], "yesterday", "not a Unix time"),
        (sign()[0], "٣" * 10, "not a Unix time"),
        (sign()[0], "-1", "not a Unix time"),
        (sign()[0], "9" * 5000, "not a Unix time"),
    ],
)
def test_headers_that_are_none(signature: str, timestamp: str, said: str) -> None:
    assert said in refused(BODY, signature, timestamp)


@pytest.mark.parametrize("key", ["", "not a key", base64.b64encode(b"x" * 31).decode(), "é" * 44])
def test_a_public_key_that_is_none_says_where_to_find_one(key: str) -> None:
    with pytest.raises(ConfigError, match=r"TELNYX_PUBLIC_KEY .*portal\.telnyx\.com"):
        WebhookVerifier(key)


def test_a_public_key_pasted_with_blanks_is_taken() -> None:
    signature, timestamp = sign()
    verifier = WebhookVerifier(f" {PUBLIC_KEY}\n")
    verifier.verify(BODY, signature=signature, timestamp=timestamp, now_s=NOW_S)


def test_an_event_is_read() -> None:
    event = parse_event(BODY)
    assert event == TelnyxEvent(
        id="0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",
        event_type="call.initiated",
        call_control_id="v3:abc",
        call_leg_id="leg",
        call_session_id="session",
        occurred_at="2026-03-01T12:00:00.123456Z",
        payload=json.loads(BODY)["data"]["payload"],
    )
    assert event.client_state == "call-1"


@pytest.mark.parametrize("payload", ['{"new": [1]}', "null", '"text"', "[]", '{"call_control_id": 7}'])
def test_unknown_events_and_odd_payloads_pass(payload: str) -> None:
    event = parse_event(b'{"data":{"id":"1","event_type":"fax.dreamt","payload":%s}}' % payload.encode())
    assert (event.id, event.event_type, event.call_control_id) == ("1", "fax.dreamt", None)
    assert event.client_state is None


@pytest.mark.parametrize("state", [5, None, "%%%", base64.b64encode(b"\xff\xfe").decode()])
def test_a_client_state_that_is_not_ours(state: object) -> None:
    assert TelnyxEvent("1", "x", payload={"client_state": state}).client_state is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b'{"data": "\xc3\x28"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", 'no object "data"'),
        (b'{"data": []}', 'no object "data"'),
        (b'{"data": {"event_type": "call.answered"}}', 'no "id"'),
        (b'{"data": {"id": "1"}}', 'no "event_type"'),
        (b'{"data": {"id": 1, "event_type": "x"}}', 'no "id"'),
    ],
)
def test_what_is_no_event_is_told(body: bytes, said: str) -> None:
    with pytest.raises(WebhookRejected, match=said) as caught:
        parse_event(body)
    assert caught.value.status == 400


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(body: bytes) -> None:
    try:
        parse_event(body)
    except WebhookRejected as error:
        assert error.status == 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"transcript": "hello", "is_final": True, "confidence": None}, ("hello", True)),
        ({"transcript": "hel", "is_final": False, "transcription_track": "inbound"}, ("hel", False)),
        ({"transcript": "hello"}, ("hello", True)),
        ({"transcript": "hello", "transcription_track": "outbound"}, None),
        ({"transcript": ""}, None),
        ({"transcript": 7}, None),
        (None, None),
        ("hello", None),
    ],
)
def test_what_the_caller_said_is_read_leniently(data: object, words: tuple[str, bool] | None) -> None:
    assert heard_words(TelnyxEvent("1", "call.transcription", payload={"transcription_data": data})) == words


def test_duplicates_are_known_until_forgotten() -> None:
    seen = SeenEvents(limit=3)
    assert [seen.is_new(name) for name in "abcab"] == [True, True, True, False, False]
    assert seen.is_new("d")  # forgets c: a and b were delivered since
    assert [seen.is_new(name) for name in "abd"] == [False, False, False]
    assert seen.is_new("c")
    assert len(seen) == 3


def test_the_usual_limit_is_ten_thousand() -> None:
    seen = SeenEvents()
    for number in range(10_001):
        assert seen.is_new(str(number))
    assert len(seen) == 10_000
    assert seen.is_new("0")

"""Telnyx media frames: order, loss and renumbering of audio; frames no carrier should send; what we send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.g711 import FRAME_BYTES, Codec
from backend.core.media import (
    CLEAR_FRAME,
    AudioIn,
    CarrierFault,
    Connected,
    DtmfIn,
    Ignored,
    MarkReturned,
    MediaEvent,
    MediaSession,
    Started,
    Stopped,
    UnsupportedLeg,
    mark_frame,
    media_frame,
)
from backend.errors import BackendError

DEPTH = 5
SILENCE = b"\xff" * FRAME_BYTES


def start_frame(**media_format: object) -> str:
    return json.dumps(
        {
            "event": "start",
            "sequence_number": "1",
            "stream_id": "stream-1",
            "start": {
                "user_id": "u",
                "call_control_id": "v3:call",
                "call_session_id": "s",
                "from": "+13125550100",
                "to": "+13125550101",
                "client_state": None,
                "custom_parameters": {},
                "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1} | media_format,
            },
        }
    )


def audio_frame(number: object, payload: bytes, track: str = "inbound") -> str:
    media = {"track": track, "chunk": number, "timestamp": "5", "payload": base64.b64encode(payload).decode()}
    return json.dumps({"event": "media", "sequence_number": "4", "stream_id": "stream-1", "media": media})


def voice(number: int) -> bytes:
    """20 ms that can be told from all others, and from silence."""
    return number.to_bytes(8, "big") + bytes(FRAME_BYTES - 8)


def feed(session: MediaSession, numbers: Iterable[int]) -> list[bytes]:
    events = [e for n in numbers for e in session.receive(audio_frame(str(n), voice(n)))]
    assert all(isinstance(e, AudioIn) for e in events)
    return [e.g711 for e in events if isinstance(e, AudioIn)]


def joined(session: MediaSession, numbers: Iterable[int]) -> bytes:
    """All audio up to and with the stop."""
    audio = feed(session, numbers)
    *rest, last = session.receive('{"event":"stop"}')
    assert last == Stopped()
    return b"".join(audio + [e.g711 for e in rest if isinstance(e, AudioIn)])


def spoken(numbers: Iterable[int]) -> bytes:
    return b"".join(voice(n) for n in numbers)


# --- order ---------------------------------------------------------------------------------------------


def test_frames_in_order_pass_at_once() -> None:
    session = MediaSession()
    for number in range(1, 200):
        assert session.receive(audio_frame(str(number), voice(number))) == [AudioIn(voice(number))]


@st.composite
def shuffled(draw: st.DrawFn) -> list[int]:
    """1…n, each frame overtaken by at most DEPTH later ones."""
    waiting, order = list(range(1, draw(st.integers(1, 45)) + 1)), []
    overtaken = dict.fromkeys(waiting, 0)
    while waiting:
        # Whoever was overtaken DEPTH times must go before anyone behind it.
        last = next((i for i, n in enumerate(waiting) if overtaken[n] >= DEPTH), len(waiting) - 1)
        pick = draw(st.integers(0, min(last, DEPTH)))
        for number in waiting[:pick]:
            overtaken[number] += 1
        order.append(waiting.pop(pick))
    return order


@given(shuffled())
def test_any_order_within_the_window_is_put_right(order: list[int]) -> None:
    assert joined(MediaSession(reorder_frames=DEPTH), order) == spoken(range(1, len(order) + 1))


@given(shuffled(), st.data())
def test_duplicates_are_dropped(order: list[int], data: st.DataObject) -> None:
    with_repeats = list(order)
    for number in data.draw(st.lists(st.sampled_from(order), max_size=10)):
        with_repeats.insert(data.draw(st.integers(with_repeats.index(number) + 1, len(with_repeats))), number)
    assert joined(MediaSession(reorder_frames=DEPTH), with_repeats) == spoken(range(1, len(order) + 1))


def test_an_old_duplicate_among_new_frames_is_dropped() -> None:
    numbers = [*range(1, 200), 3, *range(200, 300), 4, 5, *range(300, 320)]
    assert joined(MediaSession(), numbers) == spoken(range(1, 320))


@given(st.sets(st.integers(2, 99), max_size=30))
def test_lost_frames_become_silence_of_their_length(lost: set[int]) -> None:
    arrived = [n for n in range(1, 101) if n not in lost]
    expected = b"".join(SILENCE if n in lost else voice(n) for n in range(1, 101))
    assert joined(MediaSession(reorder_frames=DEPTH), arrived) == expected


def test_a_loss_delays_the_rest_by_no_more_than_the_window() -> None:
    session = MediaSession(reorder_frames=DEPTH)
    assert len(feed(session, [1, 2, 3])) == 3
    assert feed(session, range(5, 5 + DEPTH)) == []
    late = feed(session, [5 + DEPTH])
    assert b"".join(late) == SILENCE + spoken(range(5, 6 + DEPTH))
    assert feed(session, [4]) == []  # too late: its silence was played
    assert feed(session, [6 + DEPTH]) == [voice(6 + DEPTH)]


def test_silence_has_the_legs_codec_and_the_frames_length() -> None:
    session = MediaSession()
    session.receive(start_frame(encoding="PCMA"))
    long = b"\x01" * 240
    audio = b"".join(
        e.g711
        for n in (1, 3, 4, 5, 6, 7, 8)
        for e in session.receive(audio_frame(str(n), long))
        if isinstance(e, AudioIn)
    )
    assert audio == long + b"\xd5" * 240 + long * 6


def test_a_leap_forwards_is_a_new_beginning_not_hours_of_silence() -> None:
    numbers = [1, 2, 3, *range(1_000_000, 1_000_020)]
    assert joined(MediaSession(), numbers) == spoken(numbers)


def test_numbering_from_the_beginning_again_is_heard_again() -> None:
    session = MediaSession()
    feed(session, range(1, 500))
    again = b"".join(feed(session, range(1, 100)))
    # Two stragglers might be stragglers; from the third on it is a new numbering.
    assert again == spoken(range(3, 100))


def test_a_new_start_numbers_anew_at_once() -> None:
    session = MediaSession()
    session.receive(start_frame())
    assert len(feed(session, range(1, 30))) == 29
    session.receive(start_frame())
    assert feed(session, [1, 2, 3]) == [voice(1), voice(2), voice(3)]


def test_one_absurd_number_does_not_deafen_us() -> None:
    numbers = [1, 2, 3, 10**15, *range(4, 300)]
    audio = b"".join(feed(MediaSession(), numbers))
    assert audio == spoken(n for n in numbers if n < 1_000)


@given(st.lists(st.integers(0, 120) | st.integers(0, 10**12), max_size=80))
def test_hostile_numbers_never_crash_nor_swell(numbers: list[int]) -> None:
    audio = joined(MediaSession(reorder_frames=DEPTH), numbers)
    # Every frame at most once, and no gap filled with more than a second.
    assert len(audio) <= len(numbers) * (1 + 50) * FRAME_BYTES
    assert len(audio) % FRAME_BYTES == 0


# --- numbers and payloads ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["7", 7])
def test_numbers_may_be_strings_or_numbers(number: object) -> None:
    session = MediaSession()
    feed(session, range(1, 7))
    assert session.receive(audio_frame(number, voice(7))) == [AudioIn(voice(7))]
    assert session.receive(audio_frame(number, voice(7))) == []


@pytest.mark.parametrize("number", [None, "", "x", "-3", "1.5", [], {}, True, "²", "9" * 5_000, "9" * 19])
def test_unusable_numbers_let_the_audio_through(number: object) -> None:
    session = MediaSession()
    feed(session, range(1, 7))
    assert session.receive(audio_frame(number, voice(7))) == [AudioIn(voice(7))]
    assert session.receive(audio_frame(number, b"")) == []


def test_audio_without_a_start_is_heard() -> None:
    assert feed(MediaSession(), [1]) == [voice(1)]


@pytest.mark.parametrize("payload", ["???", "AAA", "AA A=", "ÄÖ", 17, None, [], {}, True])
def test_a_payload_that_is_not_base64_is_ignored(payload: object) -> None:
    session = MediaSession()
    frame = json.dumps({"event": "media", "media": {"track": "inbound", "chunk": "1", "payload": payload}})
    (event,) = session.receive(frame)
    assert isinstance(event, Ignored) and "base64" in event.reason
    # The line goes on; what was lost is silence.
    assert joined(session, range(2, 30)) == SILENCE + spoken(range(2, 30))


@pytest.mark.parametrize("media", [None, 3, "x", [], {}])
def test_media_without_its_parts_is_harmless(media: object) -> None:
    assert MediaSession().receive(json.dumps({"event": "media", "media": media})) == []


def test_our_own_track_is_not_the_caller() -> None:
    session = MediaSession()
    assert session.receive(audio_frame("1", voice(1), track="outbound")) == []
    assert session.receive(audio_frame("1", voice(1), track="inbound_track")) == [AudioIn(voice(1))]


# --- other frames --------------------------------------------------------------------------------------


def test_a_whole_stream() -> None:
    session = MediaSession()
    assert session.receive('{"event":"connected","version":"1.0.0"}') == [Connected("1.0.0")]
    assert session.receive(start_frame()) == [Started("stream-1", "v3:call", Codec.PCMU)]
    assert session.receive(audio_frame("1", voice(1)).encode()) == [AudioIn(voice(1))]
    assert session.receive('{"event":"dtmf","dtmf":{"digit":"#"}}') == [DtmfIn("#")]
    assert session.receive('{"event":"mark","mark":{"name":"0:end:3"}}') == [MarkReturned("0:end:3")]
    assert session.receive(audio_frame("3", voice(3))) == []
    assert session.receive('{"event":"stop"}') == [AudioIn(SILENCE), AudioIn(voice(3)), Stopped()]
    assert session.receive('{"event":"stop"}') == [Stopped()]


def test_the_carriers_faults_are_told() -> None:
    payload = {"code": 100003, "title": "malformed_frame", "detail": "no event"}
    frame = json.dumps({"event": "error", "stream_id": "x", "payload": payload})
    assert MediaSession().receive(frame) == [CarrierFault("100003", "no event")]
    assert MediaSession().receive('{"event":"error"}') == [CarrierFault("", "")]


@pytest.mark.parametrize("key", list("0123456789*#ABCD"))
def test_all_keys(key: str) -> None:
    frame = json.dumps({"event": "dtmf", "dtmf": {"digit": key.lower()}})
    assert MediaSession().receive(frame) == [DtmfIn(key)]


@pytest.mark.parametrize(
    "dtmf", [{}, {"digit": ""}, {"digit": None}, {"digit": "12"}, {"digit": "E"}, None, 5]
)
def test_what_is_no_key_is_ignored(dtmf: object) -> None:
    (event,) = MediaSession().receive(json.dumps({"event": "dtmf", "dtmf": dtmf}))
    assert isinstance(event, Ignored)


@pytest.mark.parametrize(
    "frame",
    ["", "{", "null", "[]", "7", '"media"', "{}", '{"event":null}', '{"event":["media"]}', '{"event":"new"}']
    + [b"\xff\xfe", "\ud800", "[" * 100_000, b""],
)
def test_frames_that_cannot_be_used_say_why(frame: str | bytes) -> None:
    (event,) = MediaSession().receive(frame)
    assert isinstance(event, Ignored) and event.reason


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_names = ["connected", "start", "media", "dtmf", "mark", "stop", "error"]
_fields = ["track", "chunk", "payload", "name", "digit", "code", "media_format", "encoding", "sample_rate"]


@given(
    st.sampled_from(_names),
    st.sampled_from([*_names, "payload"]),
    _json | st.dictionaries(st.sampled_from(_fields), _json),
)
def test_any_json_is_survived(event: str, part: str, value: object) -> None:
    session = MediaSession()
    try:
        events: list[MediaEvent] = session.receive(json.dumps({part: value} | {"event": event}))
    except UnsupportedLeg:
        assert event == "start"
        return
    assert all(not isinstance(e, AudioIn) or event in ("media", "stop") for e in events)


# --- the leg's codec -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA", "pcma"])
@pytest.mark.parametrize("rate", [8000, "8000"])
@pytest.mark.parametrize("channels", [1, "1"])
def test_the_legs_codec_is_honoured(encoding: str, rate: object, channels: object) -> None:
    (started,) = MediaSession().receive(start_frame(encoding=encoding, sample_rate=rate, channels=channels))
    assert started == Started("stream-1", "v3:call", Codec[encoding.upper()])


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "L16", "sample_rate": 16000},
        {"encoding": "L16"},
        {"encoding": "G722"},
        {"encoding": "OPUS"},
        {"encoding": "AMR-WB"},
        {"sample_rate": 16000},
        {"sample_rate": "16000"},
        {"channels": 2},
        {"encoding": "PCMA", "sample_rate": "fast"},
        {"encoding": ["PCMU"]},
    ],
)
def test_other_legs_are_refused_by_name(media_format: dict[str, object]) -> None:
    with pytest.raises(UnsupportedLeg) as caught:
        MediaSession().receive(start_frame(**media_format))
    message = str(caught.value)
    assert str(next(iter(media_format.values()))).upper() in message.upper()
    assert "PCMU and PCMA at 8000 Hz mono" in message
    assert isinstance(caught.value, BackendError)


@pytest.mark.parametrize("start", [None, {}, {"media_format": None}, {"media_format": {"encoding": None}}])
def test_a_start_that_does_not_say_is_the_telephones_default(start: object) -> None:
    (started,) = MediaSession().receive(json.dumps({"event": "start", "start": start}))
    assert isinstance(started, Started) and started.codec is Codec.PCMU


# --- what we send --------------------------------------------------------------------------------------


@given(st.binary(min_size=160, max_size=4_800))
def test_audio_frames_are_json_with_the_payload_alone(g711: bytes) -> None:
    frame = media_frame(g711)
    message = orjson.loads(frame)
    assert message == json.loads(frame)
    assert message == {"event": "media", "media": {"payload": base64.b64encode(g711).decode()}}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_mark_frames_are_json_and_come_back_as_they_went(name: str) -> None:
    message = orjson.loads(mark_frame(name))
    assert message == {"event": "mark", "mark": {"name": name}}
    assert MediaSession().receive(mark_frame(name)) == [MarkReturned(name)]


def test_the_clear_frame() -> None:
    assert orjson.loads(CLEAR_FRAME) == {"event": "clear"}

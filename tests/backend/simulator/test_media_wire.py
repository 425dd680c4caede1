"""The carrier's side of the media frames, checked against the backend's own reader."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core import media
from backend.simulator.media_wire import (
    BadFrame,
    ClearQueue,
    FrameWriter,
    PlayAudio,
    PlayMark,
    StreamFacts,
    read_command,
)

FACTS = StreamFacts("stream", "v3:call", "session", "+1", "+2", "PCMA", auth_token="t")


def test_what_the_backend_writes_is_what_the_carrier_reads():
    assert read_command(media.media_frame(b"\x10" * 160)) == PlayAudio(b"\x10" * 160)
    assert read_command(media.mark_frame('a "name"')) == PlayMark('a "name"')
    assert read_command(media.CLEAR_FRAME) == ClearQueue()


def test_what_the_carrier_writes_is_what_the_backend_reads():
    writer, session = FrameWriter(FACTS), media.MediaSession()
    frames = [
        writer.connected(),
        writer.start("user"),
        writer.media(b"\xd5" * 160, timestamp_ms=20),
        writer.dtmf("#"),
        writer.mark("m"),
        writer.error(BadFrame(100003, "malformed_frame", "why")),
        writer.stop("user"),
    ]
    events = [event for frame in frames for event in session.receive(frame)]
    names = [type(event).__name__ for event in events]
    assert names == ["Connected", "Started", "AudioIn", "DtmfIn", "MarkReturned", "CarrierFault", "Stopped"]
    numbers = [json.loads(frame).get("sequence_number") for frame in frames]
    assert numbers == [None, "1", "2", "3", "4", None, "5"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x00", 100003),
        ("{", 100003),
        ("[]", 100003),
        ("{}", 100003),
        ('{"event":"mark"}', 100003),
        ('{"event":"mark","mark":{"name":""}}', 100003),
        ('{"event":"media"}', 100004),
        ('{"event":"media","media":{"payload":7}}', 100004),
        ('{"event":"media","media":{"payload":"a"}}', 100004),
        (media.media_frame(b"x" * 159), 100004),
        (media.media_frame(b"x" * 240_001), 100004),
    ],
)
def test_bad_frames_are_named_with_telnyxs_codes(message, code):
    bad = read_command(message)
    assert isinstance(bad, BadFrame)
    assert bad.code == code
    assert bad.detail


@pytest.mark.parametrize("length", [160, 161, 240_000])
def test_20_ms_to_30_s_are_taken(length):
    assert read_command(media.media_frame(b"x" * length)) == PlayAudio(b"x" * length)


@given(st.text() | st.binary())
def test_no_message_breaks_the_reader(message):
    read_command(message)


def test_tracks_count_their_chunks_apart():
    writer = FrameWriter(FACTS)
    writer.media(b"x" * 160, timestamp_ms=0)
    out = json.loads(writer.media(b"x" * 160, timestamp_ms=0, track="outbound"))
    assert out["media"]["chunk"] == "1"
    assert base64.b64decode(out["media"]["payload"]) == b"x" * 160

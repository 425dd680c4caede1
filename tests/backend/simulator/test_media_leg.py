"""The media stream end to end over real sockets: frames, pacing, playout, marks, clear, faults."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

from backend.core.g711 import Codec
from backend.simulator.media_leg import MediaFaults


def kinds(call, kind):
    return [event for event in call["record"]["events"] if event["kind"] == kind]


async def test_the_stream_opens_as_telnyx_opens_it(stand_in):
    ccid, stream = await stand_in.answered(stream_auth_token="s3cret")
    assert stream.socket.request.headers["x-telnyx-streaming-auth-token"] == "s3cret"
    assert "sec-websocket-extensions" not in stream.socket.request.headers
    connected, start = stream.frames[:2]
    assert connected == {"event": "connected", "version": "1.0.0", "stream_auth_token": "s3cret"}
    assert start["sequence_number"] == "1"
    assert start["start"]["call_control_id"] == ccid
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    assert (start["start"]["from"], start["start"]["to"]) == ("+13125550199", "+13125550100")
    begun = await stand_in.webhooks.wait("streaming.started")
    assert begun.payload["stream_url"] == stand_in.media.url


class Lateness:
    """How late this machine runs what is due now, on the loop that everything here shares."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.worst_s = max(self.worst_s, loop.time() - due_s)


async def test_frames_are_20_ms_numbered_and_keep_to_the_clock(stand_in):
    _, stream = await stand_in.answered()
    loop, lateness = asyncio.get_running_loop(), Lateness()
    watching = asyncio.create_task(lateness.watch())
    await stream.until("media")
    began, before = loop.time(), len(stream.of("media"))
    await stream.until("media", count=76)
    took, frames = loop.time() - began, len(stream.of("media")) - before
    watching.cancel()
    media = [frame["media"] for frame in stream.of("media")[:76]]
    assert [one["chunk"] for one in media] == [str(n) for n in range(1, 77)]
    assert [int(one["timestamp"]) for one in media] == [20 * n for n in range(1, 77)]
    assert {len(base64.b64decode(one["payload"])) for one in media} == {160}
    assert {one["track"] for one in media} == {"inbound"}
    # Frames that were late are caught up with: all that is left is how late the first and the last were.
    assert abs(took - frames * 0.02) < 0.1 + 3 * lateness.worst_s


async def test_pcma_is_announced_sent_and_recorded(stand_in):
    ccid, stream = await stand_in.answered({"say": "hello"}, codec="PCMA", stream_bidirectional_codec="PCMA")
    assert (await stream.until("start"))["start"]["media_format"]["encoding"] == "PCMA"
    await stream.play(Codec.PCMA.encode(bytes(3200)) + Codec.PCMA.encode(np.full(800, 4000, "<i2").tobytes()))
    await stream.mark("end")
    await stream.until("mark")
    await stream.until("media", count=25)
    heard = b"".join(base64.b64decode(one["media"]["payload"]) for one in stream.of("media")[:25])
    assert np.abs(np.frombuffer(Codec.PCMA.decode(heard), "<i2").astype(int)).max() > 6000
    await stand_in.sdk.calls.actions.hangup(ccid)
    wav = await stand_in.ended(ccid) and (await stand_in.http.get(f"/sim/calls/{ccid}/audio.wav")).content
    right = np.frombuffer(wav[44:], "<i2").reshape(-1, 2)[:, 1]
    assert np.abs(right.astype(int) - 4000).min() < 100


async def test_a_mark_returns_when_its_audio_was_played(stand_in):
    ccid, stream = await stand_in.answered()
    await stream.play(b"\x10" * 160 * 20)
    await stream.mark("after 400 ms")
    await stream.mark("and at once")
    await stream.until("mark", count=2)
    assert [frame["mark"]["name"] for frame in stream.of("mark")] == ["after 400 ms", "and at once"]
    await stand_in.sdk.calls.actions.hangup(ccid)
    call = await stand_in.ended(ccid)
    marks = kinds(call, "mark")
    first = kinds(call, "first_audio")[0]["data"]["ms"]
    assert marks[0]["t_ms"] - first >= 395
    assert not kinds(call, "underrun")


async def test_a_mark_on_an_idle_stream_returns_at_once(stand_in):
    _, stream = await stand_in.answered()
    await stream.mark("idle")
    assert (await stream.until("mark"))["mark"] == {"name": "idle"}


async def test_clear_stops_the_audio_and_returns_every_mark(stand_in):
    ccid, stream = await stand_in.answered()
    for name in ("one", "two"):
        await stream.play(b"\x10" * 8000)
        await stream.mark(name)
    await stream.until("media", count=len(stream.of("media")) + 10)
    await stream.clear()
    await stream.until("mark", count=2)
    assert [frame["mark"]["name"] for frame in stream.of("mark")] == ["one", "two"]
    await stream.until("media", count=len(stream.of("media")) + 5)
    await stand_in.sdk.calls.actions.hangup(ccid)
    call = await stand_in.ended(ccid)
    [cleared] = kinds(call, "clear")
    assert 1500 < cleared["data"]["queued_ms_dropped"] <= 1960
    wav = (await stand_in.http.get(f"/sim/calls/{ccid}/audio.wav")).content
    right = np.frombuffer(wav[44:], "<i2").reshape(-1, 2)[:, 1]
    audible_ms = np.count_nonzero(right) / 8
    assert 2000 - cleared["data"]["queued_ms_dropped"] == pytest.approx(audible_ms, abs=1)


async def test_a_hole_inside_an_utterance_is_an_underrun_with_its_length(stand_in):
    ccid, stream = await stand_in.answered()
    await stream.play(b"\x10" * 320)
    await stream.until("media", count=len(stream.of("media")) + 12)
    await stream.play(b"\x10" * 320)
    await stream.mark("end")
    await stream.until("mark")
    await stand_in.sdk.calls.actions.hangup(ccid)
    [underrun] = kinds(await stand_in.ended(ccid), "underrun")
    assert underrun["data"]["ms"] >= 100


async def test_frames_that_cannot_be_used_are_answered_with_an_error(stand_in):
    _, stream = await stand_in.answered()
    short = base64.b64encode(b"\x10" * 159).decode()
    long = base64.b64encode(b"\x10" * 240_001).decode()
    for bad in (
        "not json",
        '{"event":"dance"}',
        '{"event":"media","media":{"payload":"###"}}',
        '{"event":"media","media":{"payload":"' + short + '"}}',
        '{"event":"media","media":{"payload":"' + long + '"}}',
    ):
        await stream.socket.send(bad)
    await stream.until("error", count=5)
    codes = [frame["payload"]["code"] for frame in stream.of("error")]
    assert codes == [100003, 100003, 100004, 100004, 100004]
    await stream.mark("still works")
    await stream.until("mark")


@pytest.mark.parametrize(
    "options", [{"stream_bidirectional_mode": "mp3"}, {"stream_bidirectional_target_legs": "opposite"}]
)
async def test_audio_without_rtp_mode_is_dropped_without_a_word(stand_in, options):
    ccid, stream = await stand_in.answered(**options)
    await stream.play(b"\x10" * 8000)
    await stream.mark("idle")
    await stream.until("mark")
    await stream.until("media", count=10)
    await stand_in.sdk.calls.actions.hangup(ccid)
    call = await stand_in.ended(ccid)
    assert not kinds(call, "first_audio")
    assert not stream.of("error")


async def test_a_dropped_socket_does_not_end_the_call_and_streaming_can_begin_again(stand_in):
    ccid, stream = await stand_in.answered()
    await stream.until("media", count=3)
    assert (await stand_in.http.post(f"/sim/calls/{ccid}/drop_media")).status_code == 200
    await stream.until_closed()
    failed = await stand_in.webhooks.wait("streaming.failed")
    assert "broke" in failed.payload["failure_reason"]
    await stand_in.stream(ccid)
    again = await stand_in.media.accept()
    assert (await again.until("media"))["media"]["chunk"] == "1"
    await stand_in.sdk.calls.actions.hangup(ccid)
    await again.until("stop")
    await again.until_closed()
    assert (await stand_in.ended(ccid))["hangup_cause"] == "normal_clearing"


async def test_the_backend_closing_the_socket_stops_the_stream_only(stand_in):
    ccid, stream = await stand_in.answered()
    await stream.until("media", count=5)
    await stream.socket.close()
    await stand_in.webhooks.wait("streaming.stopped")
    assert (await stand_in.http.get(f"/sim/calls/{ccid}")).json()["state"] == "answered"


async def test_a_stream_that_cannot_be_opened_fails_by_webhook(stand_in):
    ccid = await stand_in.ring()
    await stand_in.sdk.calls.actions.answer(ccid)
    await stand_in.stream(ccid, stream_url="ws://127.0.0.1:9/media")
    failed = await stand_in.webhooks.wait("streaming.failed")
    assert "cannot be opened" in failed.payload["failure_reason"]


async def test_lost_and_shuffled_frames_keep_their_numbers(start):
    async with start(faults=MediaFaults(lose=0.1, shuffle=0.3)) as stand_in:
        _, stream = await stand_in.answered()
        await stream.until("media", count=60)
        chunks = [int(frame["media"]["chunk"]) for frame in stream.of("media")]
    assert chunks != sorted(chunks)
    assert len(set(chunks)) == len(chunks) < max(chunks)

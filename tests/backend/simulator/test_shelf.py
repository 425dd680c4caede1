"""What all lines keep of their sound together, and what becomes of a line that keeps none."""

from __future__ import annotations

import asyncio
import json

from backend.core.g711 import Codec
from backend.simulator.line import Line, Utterance
from backend.simulator.shelf import Shelf
from tests.backend.simulator.conftest import tone

TICK_BYTES = 640  # 20 ms, both sides


def ticks(line: Line, count: int) -> None:
    for _ in range(count):
        line.tick()


def test_the_oldest_line_that_is_over_goes_first() -> None:
    shelf = Shelf(30 * TICK_BYTES)
    live, first, second = (Line(Codec.PCMU, shelf) for _ in range(3))
    for line in (live, first, second):
        ticks(line, 10)
    first.hang_up()
    second.hang_up()
    assert all(line.sound_kept for line in (live, first, second))
    ticks(live, 1)
    assert (live.sound_kept, first.sound_kept, second.sound_kept) == (True, False, True)
    ticks(live, 9)
    assert (live.sound_kept, second.sound_kept) == (True, True), "what was given up leaves room"
    ticks(live, 1)
    assert (live.sound_kept, second.sound_kept) == (True, False)


def test_a_live_line_gives_up_its_sound_when_there_is_no_other_and_goes_on() -> None:
    line, twin = Line(Codec.PCMU, Shelf(10 * TICK_BYTES)), Line(Codec.PCMU)
    told = []
    for one in (line, twin):
        ticks(one, 20)
        one.queue.push_audio(tone(100))
        one.say(Utterance("hm", tone(100), 0, 800))
        events = [event for _ in range(600) for event in one.tick().events]
        told.append([(event.t_ms, event.kind, event.data) for event in events])
        assert len(one.heard_from(one.now_ms - 60)) == 60 * 16
    assert (line.sound_kept, twin.sound_kept) == (False, True)
    assert told[0] == told[1] != []
    assert len(line.heard_from(0.0)) <= 160_000 < len(twin.heard_from(0.0))


async def test_sound_that_was_given_up_is_gone(start) -> None:
    async with start(max_sound_bytes=5 * TICK_BYTES) as stand_in:
        ccid, stream = await stand_in.answered({"silent_ms": 5000})
        actions = stand_in.sdk.calls.actions
        await actions.start_recording(ccid, channels="dual", format="wav")
        await stream.until("media", count=10)
        await actions.hangup(ccid)
        await stand_in.ended(ccid)
        saved = (await stand_in.webhooks.wait("call.recording.saved")).payload
        for url in (f"/sim/calls/{ccid}/audio.wav", saved["recording_urls"]["wav"]):
            answer = await stand_in.http.get(url)
            assert answer.status_code == 410
            assert "given up for that of newer ones" in answer.json()["errors"][0]["detail"]
        assert (await stand_in.http.get(f"/sim/calls/{ccid}")).json()["record"]["events"]


async def test_what_is_given_up_is_not_written(start, tmp_path, caplog) -> None:
    async with start(max_sound_bytes=5 * TICK_BYTES, out_dir=tmp_path) as stand_in:
        ccid, stream = await stand_in.answered({"silent_ms": 5000})
        await stream.until("media", count=10)
        await stand_in.sdk.calls.actions.hangup(ccid)
        await stand_in.ended(ccid)
    (record,) = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    assert json.loads(record.read_text())["call_control_id"] == ccid
    assert "cannot be written" in caplog.text

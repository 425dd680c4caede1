"""The playout queue: order, marks, clear, underruns; time is ticks of 20 ms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.simulator.playqueue import PlayQueue


def audio(ms: float) -> bytes:
    return b"\x01\x02" * int(ms * 8)


def ticks(queue: PlayQueue, count: int):
    return [queue.tick() for _ in range(count)]


def test_silence_when_there_is_nothing_to_play():
    played = PlayQueue().tick()
    assert (played.pcm16, played.marks, played.underrun_ms) == (b"\0" * 320, (), 0)


@given(st.lists(st.integers(1, 5000), max_size=8))
def test_everything_is_played_in_order_and_nothing_else(lengths):
    queue = PlayQueue()
    sent = b""
    for n, length in enumerate(lengths, start=1):
        queue.push_audio(chunk := bytes([n, 1]) * length)
        sent += chunk
    played = b"".join(one.pcm16 for one in ticks(queue, sum(lengths) // 160 + 2))
    assert played[: len(sent)] == sent
    assert not played[len(sent) :].strip(b"\0")


def test_a_mark_is_due_in_the_tick_after_its_audio_was_played():
    queue = PlayQueue()
    queue.push_audio(audio(40))
    assert not queue.push_mark("end")
    assert [one.marks for one in ticks(queue, 4)] == [(), (), ("end",), ()]


def test_a_mark_in_the_middle_of_a_frame_is_due_with_that_frame():
    queue = PlayQueue()
    queue.push_audio(audio(10))
    queue.push_mark("middle")
    queue.push_audio(audio(30))
    assert [one.marks for one in ticks(queue, 3)] == [(), ("middle",), ()]


def test_a_mark_on_an_idle_queue_is_due_at_once():
    assert PlayQueue().push_mark("idle")


def test_a_mark_while_the_last_frame_plays_waits_for_it():
    queue = PlayQueue()
    queue.push_audio(audio(20))
    queue.tick()
    assert not queue.push_mark("end")
    assert queue.tick().marks == ("end",)
    assert queue.push_mark("idle again")


def test_clear_drops_the_audio_and_gives_every_mark_back_in_order():
    queue = PlayQueue()
    queue.push_audio(audio(20))
    queue.push_mark("playing")
    queue.push_audio(audio(100))
    queue.push_mark("queued")
    queue.tick()
    cleared = queue.clear()
    assert cleared.marks == ("playing", "queued")
    assert cleared.dropped_ms == 100
    assert [one.marks for one in ticks(queue, 3)] == [(), (), ()]
    assert queue.push_mark("idle")


def underruns(queue: PlayQueue, quiet_ticks: int) -> float:
    ticks(queue, quiet_ticks)
    queue.push_audio(audio(20))
    return queue.tick().underrun_ms


def test_a_hole_after_audio_without_a_mark_is_an_underrun():
    queue = PlayQueue()
    queue.push_audio(audio(20))
    assert underruns(queue, 6) == 100
    ticks(queue, 1)
    assert underruns(queue, 0) == 20


def test_the_rest_of_a_short_last_frame_counts_too():
    queue = PlayQueue()
    queue.push_audio(audio(15))
    assert underruns(queue, 1) == 5


def test_audio_that_comes_just_in_time_is_no_underrun():
    queue = PlayQueue()
    queue.push_audio(audio(20))
    assert underruns(queue, 1) == 0


def test_no_underrun_after_a_mark_a_late_mark_a_clear_or_three_seconds():
    marked, late, cleared, long = (PlayQueue() for _ in range(4))
    for queue in (marked, late, cleared, long):
        queue.push_audio(audio(20))
    marked.push_mark("end")
    ticks(late, 3)
    assert late.push_mark("end")
    ticks(cleared, 3)
    cleared.clear()
    assert [underruns(queue, 5) for queue in (marked, late, cleared)] == [0, 0, 0]
    assert underruns(long, 151) == 0


def test_nothing_is_an_underrun_before_the_first_audio():
    assert underruns(PlayQueue(), 10) == 0

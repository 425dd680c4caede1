"""The worker's decisions on a stage that only counts: no torch, every frame granted one by one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from runpod_server.engine.csm_request import Asked
from runpod_server.engine.csm_worker import Delivery, Rules, Worker
from runpod_server.engine.request import HeardTurn
from runpod_server.errors import BadRequest, EngineUnavailable, GenerationFailed, OutOfMemory, StartError

DEADLINE_S = 10.0
FRAME = bytes(3840)


@dataclass(eq=False)
class Listener:
    """Takes all it gets at once, unless it is slow."""

    is_slow: bool = False
    taken_ms: float = 0.0
    paused: bool = False
    pieces: list[bytes] = field(default_factory=list)
    end: Any = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def frames(self) -> float:
        return len(b"".join(self.pieces)) / len(FRAME)


@dataclass
class Frame:
    codes: Any
    is_eos: bool
    pcm16: bytes = FRAME
    loudness: float = 0.1


class CountingStage:
    """Speaks one frame a letter, then ends; "!" never ends, "quiet" is silent, others fail as they say."""

    device = "cpu"
    max_positions = 2048

    def __init__(self, slots: int, lag: int = 0) -> None:
        self.slots, self.lag = slots, lag
        self.log: list[tuple[Any, ...]] = []
        self.text: dict[int, str] = {}
        self.made: dict[int, int] = {}
        self.granted = threading.Semaphore(0)
        self.held_back = False
        self.room = 10_000

    def open(self, slot: int) -> None:
        self.log.append(("open", slot))

    def read(
        self, slot: int, voice: Any, said: Sequence[Any], speaker: int, text: str, *, frames: int
    ) -> None:
        self.log.append(("read", slot, tuple(said), text))
        if text == "too long":
            raise BadRequest("too long", field="text")
        if text == "no memory":
            raise OutOfMemory("no memory")
        self.text[slot] = text

    def read_on(self, slot: int, speaker: int, text: str, *, frames: int, ended: bool) -> bool:
        if self.room < len(text):
            return False
        self.log.append(("read_on", slot, text, ended))
        self.text[slot] = text
        return True

    def take_back(self, slot: int) -> None:
        self.log.append(("take_back", slot))

    def begin(self, slot: int, *, temperature: float, top_k: int, seed: int) -> None:
        self.log.append(("begin", slot, seed))
        self.made[slot] = 0

    def release(self, slot: int) -> None:
        self.log.append(("release", slot))

    def frames_left(self, slot: int) -> int:
        return 1000

    def said(self, speaker: int, text: str, codes: Sequence[Any]) -> tuple[Any, int]:
        return (text, len(codes)), len(codes)

    def heard(self, speaker: int, text: str, samples: Any) -> tuple[Any, int]:
        self.log.append(("heard", speaker, text))
        if text == "no memory":
            raise OutOfMemory("no memory")
        if text == "breaks":
            raise RuntimeError("a shape is wrong")
        return (text, len(samples)), len(samples)

    def listen(self, slot: int, turn: Any) -> bool:
        if self.room < turn[1]:
            return False
        self.log.append(("listen", slot, turn))
        return True

    def drop_voice(self, digest: str) -> None:
        self.log.append(("drop_voice", digest))

    def step(self, slots: Sequence[int]) -> list[Frame]:
        if self.held_back:
            assert self.granted.acquire(timeout=DEADLINE_S)
        self.log.append(("step", tuple(slots)))
        frames = []
        for slot in slots:
            text = self.text[slot]
            if text == "breaks":
                raise RuntimeError("a shape is wrong")
            ended = self.made[slot] >= len(text) and not text.endswith("!")
            loudness = 0.0 if text.startswith("quiet") and self.made[slot] >= 5 else 0.1
            frames.append(Frame(np.zeros(2), ended, loudness=float("nan") if text == "nan" else loudness))
            self.made[slot] += 1
        return frames

    def collect(self, frames: list[Frame]) -> list[Frame]:
        return frames

    def steps_of(self, slot: int) -> int:
        return sum(entry[0] == "step" and slot in entry[1] for entry in self.log)


class Hub:
    def __init__(self) -> None:
        self.is_ready = threading.Event()
        self.failure: StartError | None = None
        self.is_dead = threading.Event()

    def post(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            listener: Any = delivery.listener
            if delivery.pcm16:
                listener.pieces.append(delivery.pcm16)
                if not listener.is_slow:
                    listener.taken_ms += len(delivery.pcm16) / 48
            if delivery.end is not None:
                listener.end = delivery.end
                listener.over.set()

    def ready(self, device: str | None, failure: StartError | None) -> None:
        self.failure = failure
        self.is_ready.set()

    def died(self) -> None:
        self.is_dead.set()


@dataclass
class Running:
    worker: Worker
    stage: CountingStage
    hub: Hub

    def say(self, text: str, *more: str, **fields: Any) -> Listener:
        listener = fields.pop("listener", None) or Listener()
        plain = {
            "speaker_id": 0,
            "voice": None,
            "temperature": 0.9,
            "top_k": 50,
            "seed": 1,
            "max_samples": None,
            "context_id": None,
        }
        asked = Asked(request_id=text, parts=(text, *more), **(plain | fields))
        self.worker.begin(listener, asked)
        return listener

    def hear(self, text: str, positions: int = 7, context_id: str = "call") -> queue.SimpleQueue[Any]:
        """Where the answer will be."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        samples = np.zeros(positions, np.float32)
        self.worker.hear(HeardTurn(context_id, text, 9, samples), answers.put)
        return answers


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    workers: list[Worker] = []

    def make(slots: int = 4, lag: int = 0, stage: Any = None) -> Running:
        stage = stage or CountingStage(slots, lag)
        hub, clock = Hub(), getattr(stage, "clock", lambda: 0.0)
        worker = Worker(lambda: stage, hub, rules=Rules(frame_limit=lambda text: 60), clock_s=clock)  # type: ignore[arg-type]
        workers.append(worker)
        worker.launch()
        assert hub.is_ready.wait(DEADLINE_S)
        return Running(worker, stage, hub)

    yield make
    for worker in workers:
        assert worker.close(DEADLINE_S)


def ended(*listeners: Listener) -> None:
    for listener in listeners:
        assert listener.over.wait(DEADLINE_S)


@pytest.mark.parametrize("lag", [0, 1])
def test_every_request_gets_all_its_frames(run: Callable[..., Running], lag: int) -> None:
    running = run(lag=lag)
    texts = ["a", "four", "eleven char"]
    listeners = [running.say(text) for text in texts]
    ended(*listeners)
    assert [listener.frames for listener in listeners] == [len(text) for text in texts]
    assert {listener.end for listener in listeners} == {"eos"}


class Clock:
    """A worker's time: goes on by what the stage does."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class TimedStage(CountingStage):
    """Reading and stepping take their time."""

    def __init__(self, slots: int, lag: int = 0, *, read_ms: float, step_ms: float) -> None:
        super().__init__(slots, lag)
        self.clock, self.read_s, self.step_s = Clock(), read_ms / 1000, step_ms / 1000
        self.begun: list[float] = []

    def begin(self, slot: int, *, temperature: float, top_k: int, seed: int) -> None:
        super().begin(slot, temperature=temperature, top_k=top_k, seed=seed)
        self.clock.now_s += self.read_s

    def step(self, slots: Sequence[int]) -> list[Frame]:
        frames = super().step(slots)
        self.clock.now_s += self.step_s
        return frames


def works(stage: CountingStage) -> list[list[str]]:
    """The texts read in each gap."""
    gaps: list[list[str]] = [[]]
    for entry in stage.log:
        if entry[0] == "step":
            gaps.append([])
        elif entry[0] in ("read", "read_on"):
            gaps[-1].append(entry[3] if entry[0] == "read" else entry[2])
    return gaps


@pytest.mark.parametrize("lag", [0, 1])
def test_as_many_prompts_are_read_between_two_frames_as_listeners_can_spare(
    run: Callable[..., Running], lag: int
) -> None:
    stage = TimedStage(64, lag, read_ms=10, step_ms=20)
    running = run(stage=stage)
    stage.held_back = True
    first = running.say("the first, who is spoken to and never ends!")
    stage.granted.release()
    while not (first.pieces if lag == 0 else stage.steps_of(0)):
        pass
    others = [running.say(f"other {index}") for index in range(60)]
    stage.held_back = False
    for _ in range(200):
        stage.granted.release()
    ended(*others)
    counts = [len(gap) for gap in works(stage)]
    assert sum(counts) == 61
    assert 2 <= max(counts) <= 20, "a fifth of a second at most"
    assert [text for gap in works(stage) for text in gap][1:] == [f"other {index}" for index in range(60)]


@pytest.mark.parametrize("lag", [0, 1])
def test_who_has_no_lead_waits_for_one_prompt_at_most(run: Callable[..., Running], lag: int) -> None:
    """A frame takes what it lasts: nobody ever has a margin to spare."""
    stage = TimedStage(8, lag, read_ms=10, step_ms=80)
    running = run(stage=stage)
    stage.held_back = True
    listeners = [running.say("never!")]
    stage.granted.release()
    stage.granted.release()
    while not listeners[0].pieces:
        pass
    listeners += [running.say("some text") for _ in range(7)]
    for _ in range(400):
        stage.granted.release()
    ended(*listeners)
    assert [len(gap) for gap in works(stage) if gap] == [1] * 8


def test_a_first_frame_under_way_is_not_held_back_by_reading_on(run: Callable[..., Running]) -> None:
    stage = TimedStage(64, lag=1, read_ms=10, step_ms=20)
    running = run(stage=stage)
    stage.held_back = True
    callers = [running.say(f"caller {index}") for index in range(64)]
    for _ in range(400):
        stage.granted.release()
    ended(*callers)
    gaps = [len(gap) for gap in works(stage)]
    first = next(turn for turn, count in enumerate(gaps) if count)
    assert gaps[first + 1] == 1, "while the first frames of those just read are being made"
    assert sum(gaps) == 64


def test_the_next_part_of_who_is_spoken_to_goes_before_new_callers(run: Callable[..., Running]) -> None:
    stage = TimedStage(16, read_ms=10, step_ms=80)  # a prompt a gap, so that there is a backlog
    running = run(slots=16, stage=stage)
    stage.held_back = True
    speaking = running.say("abc", "next")
    stage.granted.release()
    while not speaking.pieces:
        pass
    others = [running.say(f"other {index}") for index in range(15)]
    for _ in range(400):
        stage.granted.release()
    ended(speaking, *others)
    order = [text for gap in works(stage) for text in gap]
    assert order.index("next") <= 5
    order.remove("next")
    assert order == ["abc", *[f"other {index}" for index in range(15)]]


def test_what_is_heard_comes_after_prompts_that_somebody_waits_for_but_before_its_own_answer(
    run: Callable[..., Running],
) -> None:
    stage = TimedStage(16, read_ms=10, step_ms=80)
    running = run(slots=16, stage=stage)
    stage.held_back = True
    speaking = running.say("never!")
    stage.granted.release()
    while not speaking.pieces:
        pass
    answers = [running.hear("to wait", context_id="other"), running.hear("with an answer", context_id="call")]
    others = []
    for text, context_id in (("a", None), ("b", None), ("c", "call"), ("d", None)):
        stage.clock.now_s += 0.001
        others.append(running.say(text, context_id=context_id))
    for _ in range(400):
        stage.granted.release()
    ended(speaking, *others)
    assert [each.get(timeout=DEADLINE_S) for each in answers] == [True, True]
    order = [e[-1] for e in stage.log if e[0] in ("read", "heard")]
    assert order == ["never!", "a", "b", "with an answer", "c", "d", "to wait"]
    read = next(e for e in stage.log if e[0] == "read" and e[3] == "c")
    assert read[2] == (("with an answer", 7),)


def test_who_is_seconds_ahead_lets_who_waits_go_first(run: Callable[..., Running]) -> None:
    """By the clock: this listener fetches all at once and has played little of it."""
    stage = TimedStage(2, read_ms=5, step_ms=5)
    running = run(stage=stage)
    stage.held_back = True
    ahead = running.say("never ends, and is ahead!")
    for _ in range(40):
        stage.granted.release()
    while stage.steps_of(0) < 40:
        pass
    late = running.say("late", "in two parts!")
    for _ in range(400):
        stage.granted.release()
    ended(ahead, late)
    slot = next(e[1] for e in stage.log if e[0] == "read" and e[3] == "late")
    firsts = [e[1] for e in stage.log if e[0] == "step" and slot in e[1]]
    assert firsts[0] == (slot,), "alone: the other has more than two seconds"
    assert (0, slot) in firsts or (slot, 0) in firsts, "and together again, once it is spoken to"
    assert (ahead.frames, ahead.end) == (60, "max_length")


def test_a_slot_given_back_holds_nothing_that_would_be_moved(run: Callable[..., Running]) -> None:
    running = run()
    ended(running.say("plain"), running.say("talk", context_id="call"), running.say("short", max_samples=10))
    assert {e[1] for e in running.stage.log if e[0] == "release"} == {0, 2}, "1 holds the conversation"


def test_a_stop_frees_the_slot_before_the_next_frame(run: Callable[..., Running]) -> None:
    running = run(slots=1)
    running.stage.held_back = True
    first = running.say("for ever!")
    running.stage.granted.release()
    while not running.stage.steps_of(0):
        pass
    running.worker.stop(first)  # while the second frame is under way at the latest
    second = running.say("ab")
    for _ in range(20):
        running.stage.granted.release()
    ended(second)
    log = running.stage.log
    taken_over = log.index(("open", 0), 1)
    assert sum(entry[0] == "step" for entry in log[:taken_over]) <= 2
    assert second.frames == 2
    assert first.end is None, "who stopped listening is told nothing more"


def test_a_listener_who_takes_nothing_is_paused_and_nobody_else(run: Callable[..., Running]) -> None:
    running = run(slots=2)
    slow = running.say("never ends!", listener=Listener(is_slow=True))
    quick = running.say("never ends either!")
    ended(quick)
    while not slow.paused:
        pass
    assert (quick.frames, quick.end) == (60, "max_length")
    assert slow.end is None and 50 <= slow.frames < 54  # four seconds, and the chunk that reached them
    slow.taken_ms = 2500.0
    running.worker.wake()
    ended(slow)
    assert slow.frames == 60


def test_the_length_asked_for_is_kept_to_the_sample(run: Callable[..., Running]) -> None:
    listener = run().say("never ends!", max_samples=5000)
    ended(listener)
    assert (len(b"".join(listener.pieces)), listener.end) == (10_000, "max_length")


def test_silence_ends_an_utterance_and_is_not_sent(run: Callable[..., Running]) -> None:
    listener = run().say("quiet from the fifth letter on, which it never ends!")
    ended(listener)
    assert listener.end == "silence"
    assert 5 <= listener.frames <= 5 + 20


@pytest.mark.parametrize("lag", [0, 1])
def test_parts_go_on_in_the_same_slot_without_opening_anew(run: Callable[..., Running], lag: int) -> None:
    running = run(lag=lag)
    listener = running.say("one", "three", "never!", "end")
    ended(listener)
    assert (listener.frames, listener.end) == (3 + 5 + 60 + 3, "eos")
    log = [entry for entry in running.stage.log if entry[0] not in ("step", "take_back", "release")]
    assert [entry[:4] for entry in log if entry[0] != "begin"] == [
        ("open", 0),
        ("read", 0, (), "one"),
        ("read_on", 0, "three", True),
        ("read_on", 0, "never!", True),
        ("read_on", 0, "end", False),
    ]
    assert len({entry[2] for entry in log if entry[0] == "begin"}) == 4, "each part its own seed"
    taken_back = [entry for entry in running.stage.log if entry[0] == "take_back"]
    assert len(taken_back) == (3 if lag else 0)


def test_without_room_the_voice_and_what_was_said_are_read_anew(run: Callable[..., Running]) -> None:
    running = run()
    running.stage.room = 4
    listener = running.say("one", "three", "end")
    ended(listener)
    assert [entry for entry in running.stage.log if entry[0] in ("read", "read_on")] == [
        ("read", 0, (), "one"),
        ("read", 0, (("one", 3),), "three"),
        ("read_on", 0, "end", True),
    ]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_conversation_goes_on_in_its_slot_or_is_read_anew(run: Callable[..., Running], lag: int) -> None:
    running = run(slots=2, lag=lag)
    ended(running.say("hello", context_id="call"))
    ended(running.say("again", context_id="call"))
    assert [e for e in running.stage.log if e[0].startswith("read")] == [
        ("read", 0, (), "hello"),
        ("read_on", 0, "again", True),
    ]
    held = [running.say("stranger!") for _ in range(2)]
    ended(*held)
    del running.stage.log[:]
    ended(running.say("back", context_id="call"))
    reads = [e for e in running.stage.log if e[0].startswith("read")]
    assert reads[0][0] == "read" and reads[0][2:] == ((("hello", 5), ("again", 5)), "back")
    running.worker.forget("call")
    del running.stage.log[:]
    ended(running.say("new", context_id="call"))
    assert [e[2:] for e in running.stage.log if e[0] == "read"] == [((), "new")]


def test_what_is_heard_is_read_into_the_slot_at_once(run: Callable[..., Running]) -> None:
    running = run()
    ended(running.say("hello", context_id="call"))
    assert running.hear("my turn").get(timeout=DEADLINE_S) is True
    ended(running.say("again", context_id="call"))
    assert [e for e in running.stage.log if e[0] in ("read", "read_on", "listen")] == [
        ("read", 0, (), "hello"),
        ("listen", 0, ("my turn", 7)),
        ("read_on", 0, "again", True),
    ]


def test_what_is_heard_first_or_without_room_is_read_with_the_next_text(run: Callable[..., Running]) -> None:
    running = run()
    assert running.hear("ring").get(timeout=DEADLINE_S) is True
    ended(running.say("hello", context_id="call"))
    running.stage.room = 6
    assert running.hear("my turn").get(timeout=DEADLINE_S) is True
    ended(running.say("again", context_id="call"))
    assert [e[2:] for e in running.stage.log if e[0].startswith("read")] == [
        ((("ring", 7),), "hello"),
        ((("ring", 7), ("hello", 5), ("my turn", 7)), "again"),
    ]
    assert not [e for e in running.stage.log if e[0] == "listen"]


def test_what_is_heard_while_the_agent_speaks_is_context_for_what_follows(
    run: Callable[..., Running],
) -> None:
    """Neither lost nor taken to be in a slot that has not read it, whoever sends it."""
    running = run(slots=1)
    ended(running.say("hello", context_id="call"))
    running.stage.held_back = True
    speaking = running.say("again", context_id="call")
    while not running.stage.steps_of(0) > 5:
        running.stage.granted.release()
    answers = running.hear("meanwhile")
    running.stage.held_back = False
    for _ in range(20):
        running.stage.granted.release()
    ended(speaking)
    assert answers.get(timeout=DEADLINE_S) is True
    del running.stage.log[:]
    ended(running.say("then", context_id="call"))
    reads = [e for e in running.stage.log if e[0].startswith("read")]
    assert [e[0] for e in reads] == ["read"]
    assert set(reads[0][2]) == {("hello", 5), ("meanwhile", 7), ("again", 5)}


def test_at_most_one_turn_is_encoded_or_read_between_two_frames(run: Callable[..., Running]) -> None:
    running = run(slots=3)
    ended(running.say("hello", context_id="call"))
    running.stage.held_back = True
    other = running.say("somebody else, for quite a while")
    answers = [running.hear("one"), running.hear("two", context_id="call")]
    third = running.say("me too")
    for _ in range(100):
        running.stage.granted.release()
    ended(other, third)
    assert [each.get(timeout=DEADLINE_S) for each in answers] == [True, True]
    works = ("read", "read_on", "heard", "listen")
    names = [e[0] for e in running.stage.log if e[0] in (*works, "step")]
    assert names.count("heard") == names.count("listen") == 2
    first_step_after = names.index("step", names.index("heard") - 1)
    for pair in zip(names[first_step_after:], names[first_step_after + 1 :], strict=False):
        assert not (pair[0] in works and pair[1] in works), names


def test_a_turn_that_cannot_be_heard_is_answered_and_nothing_else_harmed(run: Callable[..., Running]) -> None:
    running = run()
    ended(running.say("hello", context_id="call"))
    for text, positions, failure in (
        ("no memory", 7, OutOfMemory),
        ("breaks", 7, GenerationFailed),
        ("endless", 1025, BadRequest),
    ):
        assert isinstance(running.hear(text, positions).get(timeout=DEADLINE_S), failure)
    ended(running.say("again", context_id="call"))
    assert [e[:2] for e in running.stage.log if e[0].startswith("read")] == [("read", 0), ("read_on", 0)]


def test_forgetting_forgets_what_waits_to_be_heard(run: Callable[..., Running]) -> None:
    running = run(slots=1)
    running.stage.held_back = True
    speaking = running.say("somebody else")
    while not running.stage.steps_of(0):
        running.stage.granted.release()
    answers = running.hear("my turn")
    running.worker.forget("call")
    for _ in range(40):
        running.stage.granted.release()
    assert answers.get(timeout=DEADLINE_S) is False
    ended(speaking)
    ended(running.say("hello", context_id="call"))
    assert [e[2:] for e in running.stage.log if e[0] == "read"][-1] == ((), "hello")


def test_what_was_cut_short_is_not_remembered(run: Callable[..., Running]) -> None:
    running = run()
    ended(running.say("never ends!", context_id="call"))
    ended(running.say("next", context_id="call"))
    assert [e[2] for e in running.stage.log if e[0] == "read"] == [(), ()]


@pytest.mark.parametrize(
    "text, failure", [("too long", BadRequest), ("no memory", OutOfMemory), ("nan", GenerationFailed)]
)
def test_one_fails_and_the_others_go_on(
    run: Callable[..., Running], text: str, failure: type[Exception]
) -> None:
    running = run()
    good, bad, also_good = running.say("fine"), running.say(text), running.say("just fine")
    ended(good, bad, also_good)
    assert isinstance(bad.end, failure)
    assert (good.frames, also_good.frames) == (4, 9)


def test_a_frame_that_fails_fails_those_in_it_and_the_next_are_served(run: Callable[..., Running]) -> None:
    running = run()
    bad = running.say("breaks")
    ended(bad)
    assert isinstance(bad.end, GenerationFailed) and "log" in str(bad.end)
    good = [running.say("fine") for _ in range(4)]
    ended(*good)
    assert [listener.frames for listener in good] == [4] * 4


def test_a_model_that_cannot_be_loaded_is_told() -> None:
    def fails() -> Any:
        raise EngineUnavailable("no weights")

    hub = Hub()
    worker = Worker(fails, hub)
    worker.launch()
    assert hub.is_ready.wait(DEADLINE_S)
    assert str(hub.failure) == "no weights"
    assert worker.close(DEADLINE_S)


def test_a_fault_of_its_own_ends_the_thread_and_is_told(run: Callable[..., Running]) -> None:
    running = run(slots=1)
    for _ in range(2):  # one more than there are slots: the engine never does that
        running.say("never ends!")
    assert running.hub.is_dead.wait(DEADLINE_S)


def test_closing_before_launching_and_while_speaking(run: Callable[..., Running]) -> None:
    assert Worker(lambda: CountingStage(1), Hub()).close(DEADLINE_S)  # type: ignore[arg-type, return-value]
    running = run()
    running.say("never ends!")
    assert running.worker.close(DEADLINE_S)

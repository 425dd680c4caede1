"""Turns from voice-activity windows: starts, pauses, interruptions and ends, at the right moment and once."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.endpointing import wait_ms
from backend.core.pauses import LEAST
from backend.core.turns import (
    BargeIn,
    Expects,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    TurnEnded,
    TurnEvent,
    TurnPolicy,
    TurnTaker,
)

WINDOW_MS = 32.0
POLICY = TurnPolicy()


class Line:
    """Feeds windows and keeps the time."""

    def __init__(
        self, policy: TurnPolicy = POLICY, *, now_ms: float = 1_000.0, expects: Expects = "any"
    ) -> None:
        self.turns = TurnTaker(policy)
        self.turns.expects = expects
        self.now_ms = now_ms
        self.events: list[TurnEvent] = []

    def windows(self, *probabilities: float, agent: bool = False, loud: bool = False) -> list[TurnEvent]:
        new: list[TurnEvent] = []
        for probability in probabilities:
            end_ms = self.now_ms + WINDOW_MS
            new += self.turns.window(probability, self.now_ms, end_ms, agent_speaking=agent, loud=loud)
            self.now_ms = end_ms
        self.events += new
        return new

    def speech(self, count: int, *, agent: bool = False) -> list[TurnEvent]:
        return self.windows(*[0.98] * count, agent=agent)

    def silence(self, count: int, *, agent: bool = False) -> list[TurnEvent]:
        return self.windows(*[0.01] * count, agent=agent)

    def pause(self) -> SpeechPaused:
        """Silence up to the pause."""
        while True:
            match self.silence(1):
                case [SpeechPaused() as paused]:
                    return paused
                case other:
                    assert other == []

    def end_ms(self, *, until_ms: float = 10_000.0, step_ms: float = 1.0) -> TurnEnded:
        """Ask every millisecond, silence going on."""
        while self.now_ms < until_ms:
            if ended := self.turns.due(self.now_ms):
                return ended
            self.now_ms += step_ms
        raise AssertionError("the turn never ended")


# --- starts and pauses ---------------------------------------------------------------------------------


def test_speech_starts_with_its_first_window_once_there_are_two() -> None:
    line = Line()
    assert line.silence(10) == []
    began_ms = line.now_ms
    assert line.speech(1) == [] and not line.turns.speaking
    assert line.speech(1) == [SpeechStarted(began_ms)] and line.turns.speaking
    assert line.speech(50) == []


def test_a_click_is_no_speech() -> None:
    line = Line()
    for _ in range(20):
        assert line.speech(1) + line.silence(1) == []


@pytest.mark.parametrize("jitter_ms", [0.0, -3.0, 2.9, 1e-9, -1e-9])
def test_windows_stamped_a_little_off_change_nothing(jitter_ms: float) -> None:
    turns = TurnTaker(POLICY)
    events: list[TurnEvent] = []
    for n in range(13):
        start_ms = 1_000.1 + n * WINDOW_MS + (jitter_ms if n % 2 else 0)
        probability = 0.9 if n < 6 else 0.0
        events += turns.window(probability, start_ms, start_ms + WINDOW_MS, agent_speaking=False)
        if n == 1:
            assert isinstance(events[-1], SpeechStarted)
        if n == 10:  # five windows of silence are 160 ms
            assert isinstance(events[-1], SpeechPaused)
    assert len(events) == 2


def test_wavering_probabilities_stay_speech() -> None:
    line = Line()
    line.windows(0.4, 0.45)
    assert line.events == []  # not enough to begin with
    line.windows(0.6, 0.4, 0.36, 0.4, 0.55, 0.36)
    assert [type(e) for e in line.events] == [SpeechStarted]


def test_a_pause_is_told_once_with_the_end_of_speech() -> None:
    line = Line()
    line.speech(20)
    ended_ms = line.now_ms
    paused = line.pause()
    assert paused.ended_at_ms == ended_ms
    assert line.now_ms - ended_ms == 160  # pause_ms, a multiple of the window
    assert line.silence(50) == []


def test_a_gap_shorter_than_a_pause_is_part_of_speech() -> None:
    line = Line()
    line.speech(5)
    for _ in range(5):
        assert line.silence(4) == [] and line.speech(3) == []


def test_pauses_are_numbered_and_resumed_speech_says_so() -> None:
    line = Line()
    line.speech(5)
    first = line.pause()
    assert line.speech(1) == []  # may be a click
    assert line.speech(1) == [SpeechResumed()]
    line.speech(5)
    second = line.pause()
    assert second.pause > first.pause


# --- the end of a turn ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expects", "expected_ms"),
    [
        ("I'd like an appointment.", "any", 320),
        ("Yes.", "any", 320),
        ("", "any", 320),
        ("...", "any", 320),
        ("What is that for?", "any", 320),
        ("Can I talk to a human", "any", 320),
        # A word that leaves something open.
        ("I would like to", "any", 900),
        ("My name is.", "any", 900),
        ("Tuesday and", "any", 900),
        ("Um", "any", 900),
        ("I'm", "any", 900),
        ("I’m", "any", 900),
        ("THE", "any", 900),
        # Digits.
        ("five five five", "any", 1_100),
        ("555-1234.", "any", 1_100),
        ("two", "any", 320),
        ("at ten thirty", "any", 320),
        ("At 10:30.", "any", 320),
        ("In March 2019.", "any", 320),
        ("two", "digits", 1_100),
        ("My code is 4 7 1", "digits", 1_100),
        ("forty seven", "digits", 1_100),
        ("nineteen", "digits", 1_100),
        ("that was all", "digits", 320),
        ("I think it's", "digits", 900),
        ("five double", "digits", 1_100),
        # A telephone number has ten digits, eleven when it begins with 1.
        ("312 555 019", "phone", 1_100),
        ("312 555 0199", "phone", 320),
        ("(312) 555-0199.", "phone", 320),
        ("three one two five five five oh one nine nine", "phone", 320),
        ("three one two triple five oh one double nine", "phone", 320),
        ("three one two triple five oh one nine", "phone", 1_100),
        ("1 312 555 019", "phone", 1_100),
        ("1 312 555 0199", "phone", 320),
        ("one three one two five five five oh one nine nine", "phone", 320),
        ("312 555 0199", "digits", 1_100),
        ("I don't have one right now", "phone", 320),
        # Yes or no.
        ("Yes.", "yes_no", 240),
        ("no thank you", "yes_no", 240),
        ("Yeah, sure.", "yes_no", 240),
        ("No, but could you tell me", "yes_no", 320),
        ("It is", "yes_no", 320),
        ("I'm not sure about that", "yes_no", 320),
    ],
)
def test_the_wait_fits_the_words(text: str, expects: Expects, expected_ms: float) -> None:
    assert wait_ms(text, expects, POLICY) == expected_ms
    line = Line(expects=expects)
    began_ms = line.now_ms
    line.speech(10)
    spoke_until_ms = line.now_ms
    line.turns.recognised(line.pause().pause, text, line.now_ms + 20)
    recognised_ms = line.now_ms + 20
    ended = line.end_ms()
    assert ended == TurnEnded(text, began_ms, spoke_until_ms, recognised_ms, ended.waited_ms)
    assert expected_ms <= ended.waited_ms < expected_ms + 2
    assert not line.turns.speaking and line.turns.due(line.now_ms + 10_000) is None


def test_a_melody_that_goes_on_makes_the_wait_longer_and_is_forgotten_with_its_pause() -> None:
    line = Line()
    line.speech(10)
    line.turns.recognised(line.pause().pause, "Hello there.", line.now_ms, 0.05)
    assert line.turns.wait_ms("Hello there.") == POLICY.unsure_ms
    line.speech(10)
    assert line.turns.wait_ms("Hello there.") <= POLICY.end_of_turn_ms
    line.turns.recognised(line.pause().pause, "Hello there, Maria.", line.now_ms)
    assert line.end_ms().waited_ms < POLICY.end_of_turn_ms + 2


def test_a_turn_waits_for_its_words_however_late() -> None:
    line = Line()
    line.speech(10)
    pause = line.pause().pause
    assert line.turns.due(line.now_ms + 5_000) is None
    line.turns.recognised(pause, "Hello.", line.now_ms + 5_000)
    ended = line.turns.due(line.now_ms + 5_000)
    assert ended is not None and ended.waited_ms == 160 + 32 + 5_000


def test_resumed_speech_voids_what_was_recognised() -> None:
    line = Line()
    began_ms = line.now_ms
    line.speech(10)
    pause = line.pause().pause
    line.turns.recognised(pause, "I would like", line.now_ms)
    line.speech(2)
    assert line.turns.due(line.now_ms + 10_000) is None
    line.turns.recognised(pause, "I would like", line.now_ms)  # nor when it comes again, or comes late
    assert line.turns.due(line.now_ms + 10_000) is None
    line.speech(10)
    second = line.pause().pause
    line.turns.recognised(pause, "I would like", line.now_ms)
    assert line.turns.due(line.now_ms + 10_000) is None
    line.turns.recognised(second, "I would like a table", line.now_ms)
    ended = line.end_ms()
    assert (ended.text, ended.started_ms) == ("I would like a table", began_ms)


def test_a_first_window_of_new_speech_holds_the_end_back() -> None:
    line = Line()
    line.speech(10)
    line.turns.recognised(line.pause().pause, "Hello.", line.now_ms)
    line.speech(1)
    assert line.turns.due(line.now_ms + 10_000) is None
    line.silence(1)  # it was a click
    assert line.turns.due(line.now_ms + 10_000) is not None


def test_recognition_for_the_turn_before_is_void() -> None:
    line = Line()
    line.speech(10)
    first = line.pause().pause
    line.turns.recognised(first, "Hello.", line.now_ms)
    line.end_ms()
    line.turns.recognised(first, "Hello.", line.now_ms)
    assert line.turns.due(line.now_ms + 10_000) is None
    line.speech(10)
    line.turns.recognised(first, "Hello.", line.now_ms)
    line.pause()
    line.turns.recognised(first, "Hello.", line.now_ms)
    assert line.turns.due(line.now_ms + 10_000) is None


def test_reset_drops_the_turn_and_the_next_one_is_whole() -> None:
    line = Line()
    line.speech(10)
    pause = line.pause().pause
    line.turns.reset()
    assert not line.turns.speaking
    line.turns.recognised(pause, "Hello.", line.now_ms)
    assert line.turns.due(line.now_ms + 10_000) is None
    assert line.silence(20) == []
    began_ms = line.now_ms
    assert line.speech(2) == [SpeechStarted(began_ms)]
    later = line.pause()
    assert later.pause > pause


def test_reset_in_the_middle_of_speech_begins_anew() -> None:
    line = Line()
    line.speech(10)
    line.turns.reset()
    began_ms = line.now_ms
    assert line.speech(2) == [SpeechStarted(began_ms)]


def test_reset_forgets_the_speech_that_would_interrupt() -> None:
    line = Line()
    line.speech(10)
    line.turns.reset()
    assert [type(event) for event in line.speech(2, agent=True)] == [SpeechStarted]


# --- interruptions -------------------------------------------------------------------------------------


def barge_ins(events: list[TurnEvent]) -> list[BargeIn]:
    return [event for event in events if isinstance(event, BargeIn)]


def test_speech_over_the_agent_interrupts_once() -> None:
    line = Line()
    line.silence(10, agent=True)
    began_ms = line.now_ms
    events = line.speech(4, agent=True)
    assert barge_ins(events) == [BargeIn(began_ms)]
    assert events[0] == SpeechStarted(began_ms)  # told first
    assert barge_ins(line.speech(100, agent=True)) == []


def test_a_noise_too_short_does_not() -> None:
    line = Line()
    for _ in range(20):
        assert barge_ins(line.speech(2, agent=True) + line.silence(6, agent=True)) == []


@pytest.mark.parametrize("murmur", [0.21, 0.25, 0.3])
def test_a_murmur_in_the_room_does_not_add_up(murmur: float) -> None:
    line = Line()
    for _ in range(20):
        line.windows(*[murmur] * 40, agent=True)
        line.speech(2, agent=True)
    assert barge_ins(line.events) == []


def test_a_soft_onset_interrupts_no_later_than_a_sure_one() -> None:
    line = Line()
    line.windows(0.01, 0.46, 0.71, 0.98, 0.98, agent=True)
    assert barge_ins(line.events)


def test_a_longer_minimum_needs_longer_speech() -> None:
    line = Line(replace(POLICY, min_speech_ms=600))
    assert barge_ins(line.speech(12, agent=True)) == []
    assert barge_ins(line.speech(7, agent=True))


def test_nobody_interrupts_a_silent_agent_nor_one_that_may_not_be() -> None:
    assert barge_ins(Line().speech(100)) == []
    line = Line(replace(POLICY, barge_in=False))
    assert barge_ins(line.speech(100, agent=True)) == []
    assert line.events  # but is heard


def test_an_agent_that_starts_while_the_caller_speaks_is_interrupted() -> None:
    line = Line()
    line.speech(20)
    assert barge_ins(line.speech(1, agent=True))
    assert barge_ins(line.speech(20, agent=True)) == []


def test_an_agent_that_starts_in_the_callers_silence_is_not_interrupted() -> None:
    line = Line(replace(POLICY, min_speech_ms=600))
    line.speech(20)
    assert barge_ins(line.silence(10, agent=True)) == []
    line = Line()
    line.speech(20)
    assert barge_ins(line.silence(1, agent=True)) == []


def test_each_interruption_counts_for_itself() -> None:
    line = Line()
    assert len(barge_ins(line.speech(10, agent=True))) == 1
    line.speech(5)  # the agent fell silent
    assert len(barge_ins(line.speech(10, agent=True))) == 1  # and began again
    # Also when it was silent only while the caller was, and the turn goes on.
    line.silence(3)
    assert len(barge_ins(line.speech(10, agent=True))) == 1


def test_a_turns_end_leaves_nothing_that_helps_the_next_noise_interrupt() -> None:
    line = Line(expects="yes_no")
    line.speech(30)
    line.turns.recognised(line.pause().pause, "Yes.", line.now_ms)
    line.end_ms()
    assert barge_ins(line.speech(2, agent=True) + line.silence(5, agent=True)) == []


def test_a_pause_in_an_interruption_is_not_another() -> None:
    line = Line()
    assert len(barge_ins(line.speech(10, agent=True))) == 1
    line.silence(8, agent=True)
    assert barge_ins(line.speech(10, agent=True)) == []
    line.turns.recognised(line.pause().pause, "Stop.", line.now_ms)
    line.end_ms()
    assert len(barge_ins(line.speech(10, agent=True))) == 1  # a new turn


# --- whatever comes ------------------------------------------------------------------------------------

_probability = (
    st.sampled_from([0.0, 0.01, 0.3, 0.36, 0.49, 0.5, 0.9, 1.0]) | st.floats(-1, 2) | st.just(math.nan)
)
_window = st.tuples(st.sampled_from(["window", "loud"]), _probability, st.booleans())
_run = st.tuples(st.just("run"), st.sampled_from([0.01, 0.99]), st.integers(1, 12))
_told = st.tuples(
    st.just("recognised"), st.integers(0, 2), st.sampled_from(["", "Yes.", "and", "1 2 3", "Hello you"])
)
_other = st.tuples(st.sampled_from(["due", "reset"]), st.just(0), st.just(0))


@given(
    st.lists(_window | _run | _run | _told | _told | _other, min_size=20, max_size=120),
    st.sampled_from(["any", "yes_no", "digits", "phone"]),
    st.sampled_from(
        [POLICY, TurnPolicy(0, 0, 0, 0, 0, 0), replace(POLICY, pause_ms=5), replace(POLICY, barge_in=False)]
    ),
)
def test_any_sequence_keeps_the_order_of_things(
    steps: list[tuple[str, float, object]], expects: Expects, policy: TurnPolicy
) -> None:
    line = Line(policy, expects=expects)
    story: list[TurnEvent] = []
    recognised: dict[int, str] = {}
    pauses = 0
    agent = False
    for kind, number, extra in steps:
        if kind in ("window", "loud"):
            agent = bool(extra)
            story += line.windows(number, agent=agent, loud=kind == "loud")
        elif kind == "run":
            assert isinstance(extra, int)
            story += line.windows(*[number] * extra, agent=agent)
        elif kind == "recognised":
            pause = max((e.pause for e in story if isinstance(e, SpeechPaused)), default=0) - int(number)
            line.turns.recognised(pause, str(extra), line.now_ms)
            recognised[pause] = str(extra)
        elif kind == "reset":
            line.turns.reset()
            story.append(TurnEnded("reset", 0, 0, 0, 0))
        elif ended := line.turns.due(line.now_ms):
            assert not ended.text or ended.text in recognised.values()
            if ended.text and not ended.aside:
                assert ended.waited_ms >= wait_ms(ended.text, expects, policy, LEAST)
            story.append(ended)
        pauses = len([e for e in story if isinstance(e, SpeechPaused)])

    speaking = paused = False
    started_ms = last_pause = -1.0
    for event in story:
        match event:
            case SpeechStarted(at_ms):
                assert not speaking and at_ms >= started_ms
                speaking, paused, started_ms = True, False, at_ms
            case SpeechPaused(pause, ended_at_ms):
                assert speaking and not paused and pause > last_pause and ended_at_ms > started_ms
                paused, last_pause = True, pause
            case SpeechResumed():
                assert speaking and paused
                paused = False
            case BargeIn(speech_started_ms):
                assert speaking and not paused and policy.barge_in and speech_started_ms >= started_ms
            case TurnEnded("reset", 0, 0, 0, 0):
                speaking = paused = False
            case TurnEnded() as ended:
                assert speaking and (paused or not ended.text), "ended without a pause"
                assert ended.started_ms == started_ms < ended.speech_ended_ms <= ended.recognised_ms
                speaking = paused = False
    assert pauses == len({e.pause for e in story if isinstance(e, SpeechPaused)})
    stamps = [e.at_ms for e in story if isinstance(e, SpeechStarted)]
    assert all(a < b for a, b in pairwise(stamps))


# --- the caller's own pace -----------------------------------------------------------------------------


def waited_after(line: Line, text: str) -> float:
    line.speech(20)
    line.turns.recognised(line.pause().pause, text, line.now_ms)
    return line.end_ms(until_ms=line.now_ms + 10_000).waited_ms


def test_the_first_sentence_of_a_call_is_given_time_until_the_pace_is_known() -> None:
    line = Line()
    first_ms = waited_after(line, "I would like a table.")
    line.silence(60, agent=True)
    assert 500 < first_ms < 600 and waited_after(line, "I would like a table.") < 330


@pytest.mark.parametrize(
    "text", ["Can I have a table for two?", "What are your opening hours", "Yes, please."]
)
def test_a_question_or_a_few_words_get_no_more_time_for_being_the_first(text: str) -> None:
    assert waited_after(Line(), text) < 330


def test_a_caller_who_pauses_long_is_given_more_time() -> None:
    line = Line()
    waited_after(line, "Hello.")
    line.silence(60, agent=True)
    before_ms = waited_after(line, "I would like a table.")
    line.speech(20)
    line.turns.recognised(line.pause().pause, "I would", line.now_ms)
    line.silence(20)
    line.speech(20)
    after_ms = waited_after(line, "I would like a table.")
    assert before_ms < 330 and 400 < after_ms <= 830


def test_a_caller_who_was_cut_off_is_given_more_time() -> None:
    line = Line()
    waited_after(line, "I would like a table.")
    line.silence(5)  # going on before anything was answered
    assert waited_after(line, "For two people.") > 400


def test_an_answer_to_what_we_said_is_no_cut_off() -> None:
    line = Line()
    waited_after(line, "I would like a table.")
    line.silence(5, agent=True)
    assert waited_after(line, "For two people.") < 330


# --- signs of listening --------------------------------------------------------------------------------


def over_the_agent(line: Line, text: str, windows: int = 10) -> TurnEnded:
    line.speech(windows, agent=True)
    line.turns.recognised(line.pause().pause, text, line.now_ms)
    return line.end_ms(until_ms=line.now_ms + 10_000)


def test_a_sign_of_listening_is_told_apart_and_at_once() -> None:
    ended = over_the_agent(Line(), "Uh-huh.")
    assert ended.aside and ended.waited_ms < POLICY.pause_ms + WINDOW_MS + 2


def test_words_over_the_agent_are_a_turn() -> None:
    ended = over_the_agent(Line(), "No, wait.")
    assert not ended.aside and ended.waited_ms >= POLICY.end_of_turn_ms


def test_an_okay_that_takes_long_is_meant() -> None:
    assert not over_the_agent(Line(), "Okay.", 50).aside


def test_a_sign_of_listening_when_nobody_speaks_is_an_answer() -> None:
    line = Line()
    line.speech(10)
    line.turns.recognised(line.pause().pause, "Okay.", line.now_ms)
    assert not line.end_ms().aside


def test_a_sound_without_words_over_the_agent_is_over_at_once() -> None:
    ended = over_the_agent(Line(), "")
    assert not ended.aside and ended.waited_ms < POLICY.pause_ms + WINDOW_MS + 2


def test_a_loud_short_vowel_interrupts_although_the_detector_doubts_it() -> None:
    # “Oh,” as Silero sees it at 8 kHz: never two sure windows in a row.
    doubtful = [0.33, 0.47, 0.14, 0.31, 0.51, 0.24]

    def interrupted_after_ms(loud: bool) -> float | None:
        turns = TurnTaker(TurnPolicy())
        for number, probability in enumerate(doubtful):
            end_ms = (number + 1) * 32.0
            events = turns.window(probability, end_ms - 32.0, end_ms, agent_speaking=True, loud=loud)
            if any(isinstance(event, BargeIn) for event in events):
                assert turns.speaking
                return end_ms
        return None

    assert interrupted_after_ms(loud=True) == 64.0
    assert interrupted_after_ms(loud=False) is None


def test_a_loud_long_vowel_interrupts_at_once_and_its_words_are_one_turn() -> None:
    # “Oh, I need …” of a voice that Silero hears as speech 600 ms late.
    line = Line()
    line.windows(0.06, 0.62, 0.16, 0.06, 0.1, agent=True, loud=True)
    assert [event.speech_started_ms for event in barge_ins(line.events)] == [1_000.0]
    line.windows(0.06, 0.07, 0.02, 0.03, loud=True)
    line.windows(0.05, 0.04, 0.04)
    line.windows(0.02, 0.05, 0.4, 0.26, loud=True)
    assert line.turns.due(line.now_ms) is None
    line.speech(20)
    assert [type(event) for event in line.events] == [SpeechStarted, BargeIn]
    line.turns.recognised(line.pause().pause, "Oh, I need a doctor.", line.now_ms)
    assert line.end_ms().started_ms == 1_000.0


def test_a_loud_noise_interrupts_once_has_no_words_and_then_counts_no_more() -> None:
    line = Line()
    line.windows(*[0.05] * 10, agent=True, loud=True)
    assert len(barge_ins(line.events)) == 1
    line.silence(12)
    ended = line.turns.due(line.now_ms)
    assert ended is not None and ended.text == ""
    assert not any(isinstance(event, SpeechPaused) for event in line.events), "noise is not to be recognised"
    line.windows(*[0.05] * 100, agent=True, loud=True)
    assert len(barge_ins(line.events)) == 1
    assert len(barge_ins(line.speech(5, agent=True))) == 1, "speech counts all the same"


def test_a_noise_that_goes_on_is_not_waited_for() -> None:
    line = Line()
    while line.turns.due(line.now_ms) is None:
        line.windows(0.05, agent=not barge_ins(line.events), loud=True)
    assert len(barge_ins(line.events)) == 1
    assert 600 <= line.now_ms - barge_ins(line.events)[0].speech_started_ms <= 700


@given(st.integers(1, 3), st.integers(0, 3), st.floats(0, 0.06))
def test_noises_again_and_again_make_us_hesitate_less_and_less(on: int, off: int, probability: float) -> None:
    line = Line()
    held_at_ms = []
    agent = True
    while line.now_ms < 120_000.0:
        loud = (line.now_ms // WINDOW_MS) % (on + off) < on
        if barge_ins(line.windows(probability, agent=agent, loud=loud)):
            held_at_ms.append(line.now_ms)
            agent = False
        if line.turns.due(line.now_ms) is not None:
            agent = True
    assert len(held_at_ms) <= 6
    gaps = [b - a for a, b in pairwise(held_at_ms)]
    assert all(gap >= least for gap, least in zip(gaps, (5_000, 10_000, 20_000, 40_000), strict=False))


def test_after_a_sound_that_was_nothing_speech_interrupts_a_little_later() -> None:
    line = Line()
    line.windows(*[0.05] * 6, agent=True, loud=True)
    line.silence(12)
    assert line.turns.due(line.now_ms) is not None
    assert barge_ins(line.windows(0.98, 0.98, agent=True, loud=True)) == []
    assert barge_ins(line.windows(0.98, agent=True, loud=True))


def test_a_vowel_after_a_soft_consonant_interrupts_at_once() -> None:
    def heard(*, soft_before: bool) -> list[TurnEvent]:
        turns = TurnTaker(POLICY)
        return turns.window(0.7, 0, WINDOW_MS, agent_speaking=True, loud=True, soft_before=soft_before)

    assert barge_ins(heard(soft_before=True)) and not barge_ins(heard(soft_before=False))


def test_a_noise_that_does_not_stop_does_not_keep_us_silent() -> None:
    line = Line()
    while line.turns.due(line.now_ms) is None:
        line.windows(0.05, agent=True, loud=True)
        assert line.now_ms < 4_000.0
    assert len(barge_ins(line.events)) == 1

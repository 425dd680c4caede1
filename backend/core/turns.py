"""Speech and silence → turns: when the caller began, paused, interrupted, and is done.

Fed with voice-activity windows and, at each pause, the words recognised so far. Pure: it neither hears nor
transcribes, and time is an argument (milliseconds on the call's clock).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from backend.core.backchannel import is_backchannel
from backend.core.endpointing import Expects as Expects
from backend.core.endpointing import TurnPolicy as TurnPolicy
from backend.core.endpointing import is_statement, wait_ms
from backend.core.pauses import CallerPace

SPEECH_PROBABILITY = 0.5  # Silero's own advice; 0.15 lower to stay in speech, so that it does not flutter
SILENCE_PROBABILITY = 0.35
_DOUBT, _CERTAINTY = 0.3, 0.6  # what a window's probability counts: nothing below, in full above
# Silero misses loud vowels ("oh,", "ac-tually") for 600 ms and more. A wrong guess only costs a pause, speech
# is resumed; and for a while afterwards loudness alone proves nothing, or a passing lorry would chop it up.
_LOUD_BONUS = 0.45
_DOUBT_MS = 5_000.0
_MOST_DOUBT_MS = 40_000.0  # each further sound in a row that was nothing doubles it
_LOUD_SPEECH_MS = 500.0  # so long we hold our tongue for a sound that is not speech yet, and a wait besides
# The detector trails the first sound, soft onsets by more: so much of the speech need not be seen. A wrong
# guess is cheap, speech that was held goes on; after one, for a while, more is asked for.
_UNSEEN_MS = 54.0
_UNSEEN_LOUD_MS = 70.0
_UNSEEN_WORD_MS = 90.0  # a soft consonant, then something loud
_UNSEEN_IN_DOUBT_MS = 36.0
_LEAST_SEEN = 0.25  # of the speech that counts
_SURE_WINDOWS = 2  # one alone is a click
_TRAILING_MS = 32.0  # as the detector trails the last: it was quiet for so much longer
_ASIDE_MS = 160.0  # after no more than a sign of listening: we wait for our own turn to go on
_CUT_OFF_MS = 1_200.0  # who goes on so soon after the end of a turn, unanswered, was cut off
_FIRST_PACE = 1.7  # of a caller whose pace is not known yet
_FLUENT_MS = 2_500.0  # a turn so long without a pause tells of a brisk speaker
_SLACK_MS = 8.0  # windows are stamped as they arrive, a little early or late


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller speaks; the first window of it began at `at_ms`."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller speaks while the agent does, for long enough to mean it."""

    speech_started_ms: float


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """A pause: recognise the turn's audio so far and tell `recognised`, quoting `pause`."""

    pause: int
    ended_at_ms: float


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The pause was none: what was recognised for it is void."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The caller is done. `text` may be empty: a sound, no words. `aside`: said over us, and no more than a
    sign of listening ("uh-huh"); what we were saying may go on."""

    text: str
    started_ms: float
    speech_ended_ms: float
    recognised_ms: float
    waited_ms: float
    aside: bool = False


TurnEvent = SpeechStarted | BargeIn | SpeechPaused | SpeechResumed | TurnEnded


class TurnTaker:
    """One caller's turns. Feed windows in order; ask `due` between them so that a wait ends on time."""

    def __init__(self, policy: TurnPolicy) -> None:
        self.policy = policy
        self.expects: Expects = "any"
        self._state: Literal["quiet", "speaking", "paused"] = "quiet"
        self._pause = 0
        self._run_started_ms: float | None = None  # first window of an unbroken run of speech
        self._run_windows = 0
        self._started_ms = self._last_speech_ms = 0.0
        self._text: str | None = None
        self._done: float | None = None  # by the melody of those words
        self._recognised_ms = 0.0
        self._interrupted = False
        self._over_agent = False  # the turn under way began while we spoke, or cut us short
        self._pace = CallerPace()
        self._pace_known = False
        self._ended: tuple[float, float] | None = None  # of the last turn, unanswered: its end and plain wait
        self._paused_in_turn = False
        self._sure = False  # the detector itself heard speech in this turn
        self._doubt_until_ms = 0.0
        self._doubt_ms = _DOUBT_MS
        self._evidence: deque[tuple[float, float, float]] = deque()  # lately: start, end, ms of speech

    @property
    def speaking(self) -> bool:
        """Whether a caller's turn is under way, its pauses included."""
        return self._state != "quiet"

    @property
    def over_agent(self) -> bool:
        """Whether the turn under way began while the agent spoke, or cut it short."""
        return self._over_agent

    @property
    def span_ms(self) -> tuple[float, float]:
        """When the turn under way began, and when its last speech so far ended."""
        return self._started_ms, self._last_speech_ms

    def window(
        self,
        probability: float,
        start_ms: float,
        end_ms: float,
        *,
        agent_speaking: bool,
        loud: bool = False,
        soft_before: bool = False,
    ) -> list[TurnEvent]:
        """One voice-activity window, `start_ms` to `end_ms`, and what it changes.

        `loud`: it stands out from the line's noise, which while we speak counts towards an interruption.
        `soft_before`: a soft sound did, right before, as the consonant that a word begins with.
        """
        bonus = _LOUD_BONUS if loud and start_ms >= self._doubt_until_ms else 0.0
        self._weigh(min(1.0, probability + bonus), start_ms, end_ms)
        if agent_speaking:
            self._ended = None
        else:
            self._interrupted = False
        if bonus and self._only_loud and end_ms - self._started_ms <= _LOUD_SPEECH_MS:
            self._last_speech_ms = end_ms
        before = self._state
        events = self._activity(probability, start_ms, end_ms)
        if before == "quiet" and self._state != "quiet":
            self._over_agent = agent_speaking
        if agent_speaking and self._barges_in(loud=loud, soft_before=soft_before):
            events += self._interrupt(end_ms)
        return events

    def _activity(self, probability: float, start_ms: float, end_ms: float) -> list[TurnEvent]:
        threshold = SPEECH_PROBABILITY if self._run_started_ms is None else SILENCE_PROBABILITY
        if probability >= threshold:
            return self._speech(start_ms, end_ms)
        self._run_started_ms = None
        silent = end_ms - self._last_speech_ms + _SLACK_MS >= self.policy.pause_ms
        if self._state == "speaking" and silent and self._sure:
            self._state = "paused"
            self._pause += 1
            self._text = None
            return [SpeechPaused(self._pause, self._last_speech_ms)]
        return []

    def recognised(self, pause: int, text: str, now_ms: float, done: float | None = None) -> None:
        """The words up to a pause. Void when the caller has gone on since.

        `done`: how likely their melody makes it that the caller is done, 0 to 1; None: nobody judged.
        """
        if self._state == "paused" and pause == self._pause:
            self._text, self._recognised_ms, self._done = text, now_ms, done

    def wait_ms(self, text: str) -> float:
        """How long the silence must last after these words of the turn under way."""
        if self._over_agent and self._is_aside(text):
            return _ASIDE_MS
        return wait_ms(text, self.expects, self.policy, self._pace_after(text), self._done)

    def _pace_after(self, text: str) -> float:
        """This caller's pace; for the first sentence of a call, when it is not known yet, a slow one's."""
        if self._pace_known or not is_statement(text, self.expects):
            return self._pace.factor
        return max(_FIRST_PACE, self._pace.factor)

    def due(self, now_ms: float) -> TurnEnded | None:
        """The end of the turn, once the silence is long enough for the words it follows."""
        if self._only_loud:
            # No speech, so nothing to recognise: a recogniser would hear words in it all the same.
            text, recognised_ms = "", self._last_speech_ms
        elif self._state == "paused" and self._text is not None and self._run_started_ms is None:
            text, recognised_ms = self._text, self._recognised_ms
        else:
            return None
        if self._quiet_ms(now_ms) < self.wait_ms(text):
            return None
        return self._end(text, recognised_ms, now_ms)

    def _end(self, text: str, recognised_ms: float, now_ms: float) -> TurnEnded:
        aside = self._over_agent and bool(text) and self._is_aside(text)
        ended = TurnEnded(
            text, self._started_ms, self._last_speech_ms, recognised_ms, self._quiet_ms(now_ms), aside
        )
        if not text:
            self._doubt_until_ms = now_ms + self._doubt_ms
            self._doubt_ms = min(_MOST_DOUBT_MS, 2 * self._doubt_ms)
        elif not aside:
            self._doubt_ms, self._pace_known = _DOUBT_MS, True
            plain_ms = wait_ms(text, self.expects, self.policy)
            self._ended = self._last_speech_ms, plain_ms
            if not self._paused_in_turn and self._last_speech_ms - self._started_ms >= _FLUENT_MS:
                self._pace.fluent()
        self.reset()
        return ended

    def _quiet_ms(self, now_ms: float) -> float:
        return now_ms - self._last_speech_ms + _TRAILING_MS

    def _is_aside(self, text: str) -> bool:
        return not text or is_backchannel(text, self._last_speech_ms - self._started_ms)

    @property
    def _only_loud(self) -> bool:
        """Whether the turn under way is so far a sound that the detector does not take for speech."""
        return self._state == "speaking" and not self._sure

    def reset(self) -> None:
        """Drop the turn under way, as when keys were pressed instead."""
        self._state = "quiet"
        self._text = self._run_started_ms = self._done = None
        self._interrupted = self._sure = self._over_agent = self._paused_in_turn = False
        self._evidence.clear()

    def _speech(self, start_ms: float, end_ms: float) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        if self._run_started_ms is None:
            self._run_started_ms, self._run_windows = start_ms, 0
        self._run_windows += 1
        sure = self._run_windows >= _SURE_WINDOWS
        self._sure = self._sure or sure
        if sure and self._state != "speaking":
            self._learn_pause(self._run_started_ms)
        if self._state == "paused" and sure:
            self._state = "speaking"
            self._text = self._done = None
            events.append(SpeechResumed())
        elif self._state == "quiet" and sure:
            self._state = "speaking"
            self._started_ms = self._run_started_ms
            events.append(SpeechStarted(self._started_ms))
        if self._state == "speaking":
            self._last_speech_ms = end_ms
        return events

    def _learn_pause(self, until_ms: float) -> None:
        """The caller goes on, within the turn or right after we took it to be over."""
        usual_ms = self.policy.end_of_turn_ms
        if self._state == "paused":
            self._paused_in_turn = True
            plain_ms = wait_ms(self._text or "", self.expects, self.policy)
            self._pace.paused(until_ms - self._last_speech_ms, plain_ms, usual_ms)
        elif self._ended is not None and until_ms - self._ended[0] <= _CUT_OFF_MS:
            self._pace.paused(until_ms - self._ended[0], self._ended[1], usual_ms)
        self._ended = None

    def _interrupt(self, end_ms: float) -> list[TurnEvent]:
        """The caller talks over us. What showed it may be too doubtful to have begun a turn: now it has."""
        self._interrupted = self._over_agent = True
        since_ms = next((start for start, _, speech in self._evidence if speech > 0), end_ms)
        events: list[TurnEvent] = []
        if self._state != "speaking":
            events.append(SpeechResumed() if self._state == "paused" else SpeechStarted(since_ms))
            if self._state == "quiet":
                self._started_ms = since_ms
            self._state, self._text, self._done = "speaking", None, None
            self._last_speech_ms = end_ms
        return [*events, BargeIn(max(since_ms, self._started_ms))]

    def _weigh(self, probability: float, start_ms: float, end_ms: float) -> None:
        """Keep the evidence of speech in the last `min_speech_ms`. A soft onset ("hi", "sorry") makes single
        windows doubtful; waiting for an unbroken run of sure ones would cost the caller up to 100 ms more of
        our voice. Older doubt is forgotten, or a murmur in the room would add up to an interruption."""
        weight = min(1.0, max(0.0, (probability - _DOUBT) / (_CERTAINTY - _DOUBT)))
        self._evidence.append((start_ms, end_ms, (end_ms - start_ms) * weight))
        while len(self._evidence) > 1 and end_ms - self._evidence[1][0] >= self.policy.min_speech_ms:
            self._evidence.popleft()

    def _barges_in(self, *, loud: bool, soft_before: bool) -> bool:
        if not self.policy.barge_in or self._interrupted:
            return False
        if self._evidence[-1][2] <= 0:
            return False  # silent now: that we begin to speak after somebody did is no interruption
        least_ms = self.policy.min_speech_ms
        if self._evidence[-1][0] < self._doubt_until_ms:
            unseen_ms = _UNSEEN_IN_DOUBT_MS
        elif loud:
            unseen_ms = _UNSEEN_WORD_MS if soft_before else _UNSEEN_LOUD_MS
        else:
            unseen_ms = _UNSEEN_MS
        seen_ms = sum(speech for _, _, speech in self._evidence)
        return seen_ms >= max(_LEAST_SEEN * least_ms, least_ms - unseen_ms)

"""The scripted caller: what they do next, decided every tick from what they heard and how long they waited.

Pure: time comes in, actions go out. Knows nothing of audio, sockets or how words are recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.simulator.phrases import hears_any
from backend.simulator.script import (
    HangUp,
    Interrupt,
    Press,
    Say,
    SayUntil,
    Script,
    StaySilent,
    Step,
    WaitFor,
    WaitUntilQuiet,
)

KEY_GAP_MS = 250.0
_TURN_MS = 1_200.0  # after so much quiet it is our turn again, though we were not understood


@dataclass(frozen=True, slots=True)
class Speak:
    """Begin to say the step's text, now."""

    step: Say | Interrupt


@dataclass(frozen=True, slots=True)
class PressKey:
    """Press one key."""

    digit: str


@dataclass(frozen=True, slots=True)
class EndCall:
    """Hang up; `reason` is set when the call did not go as the script says."""

    reason: str | None = None


CallerAction = Speak | PressKey | EndCall


@dataclass(frozen=True, slots=True)
class _Heard:
    text: str
    end_ms: float


class ScriptedCaller:
    """Plays a script. After its last step the caller stays on the line and listens.

    "The agent's next speech" is the first that begins after the words last waited for, and after the
    caller's own last words began.
    """

    def __init__(self, script: Script) -> None:
        self._steps = script.steps
        self._at = 0
        self._step_began_ms: float | None = None
        self._heard: list[_Heard] = []
        self._searched = (-1, -1)  # the step and the number of stretches last searched in vain
        self._speech_starts_ms: list[float] = []
        self._agent_speaking = False
        self._quiet_since_ms = 0.0
        self._past_ms = 0.0  # speech that began before this is not "next"
        self._spoke = False
        self._keys_pressed = 0
        self._tries = 0
        self._tried_ms = 0.0
        self._ended = False

    @property
    def finished(self) -> bool:
        """No step is left."""
        return self._at >= len(self._steps)

    def quiet_ms(self, now_ms: float, *, speaking: bool) -> float:
        """For how long neither side has spoken."""
        return 0.0 if self._agent_speaking or speaking else now_ms - self._quiet_since_ms

    @property
    def agent_speaking(self) -> bool:
        """Whether the agent speaks, as far as the caller hears: pauses of 300 ms end its speech."""
        return self._agent_speaking

    def agent_began(self, start_ms: float) -> None:
        self._agent_speaking = True
        self._speech_starts_ms.append(start_ms)

    def agent_ended(self, end_ms: float) -> None:
        self._agent_speaking = False
        self._quiet_since_ms = max(self._quiet_since_ms, end_ms)

    def heard(self, text: str, end_ms: float) -> None:
        """What the caller's ears made of a stretch of the agent's speech. Stretches come in order."""
        self._heard.append(_Heard(text, end_ms))

    def tick(self, now_ms: float, *, speaking: bool) -> list[CallerAction]:
        """What to do now. `speaking`: the caller's own words are still on their way out."""
        actions: list[CallerAction] = []
        if speaking:
            self._quiet_since_ms = max(self._quiet_since_ms, now_ms)
        while not self.finished and not self._ended:
            if self._step_began_ms is None:
                self._step_began_ms = now_ms
            step = self._steps[self._at]
            done = self._play(step, now_ms, now_ms - self._step_began_ms, speaking, actions)
            if not done:
                break
            self._at += 1
            self._step_began_ms, self._spoke, self._keys_pressed = None, False, 0
            self._tries = 0
        return actions

    def _play(
        self, step: Step, now_ms: float, waited_ms: float, speaking: bool, actions: list[CallerAction]
    ) -> bool:
        """Whether the step is over."""
        match step:
            case WaitFor():
                return self._match(step.phrases) or self._late(step.timeout_ms, waited_ms, actions)
            case WaitUntilQuiet():
                quiet_ms = self.quiet_ms(now_ms, speaking=speaking)
                return quiet_ms >= step.quiet_ms or self._late(step.timeout_ms, waited_ms, actions)
            case Say():
                return self._say(step, now_ms, speaking, actions)
            case SayUntil():
                return self._insist(step, now_ms, speaking, actions)
            case Interrupt():
                if not self._spoke and not self._due(step.interrupt_after_ms, now_ms):
                    return self._late(step.timeout_ms, waited_ms, actions)
                return self._say(step, now_ms, speaking, actions)
            case Press():
                return self._press(step.press, waited_ms, actions)
            case StaySilent():
                return waited_ms >= step.silent_ms
            case HangUp():
                self._ended = True
                actions.append(EndCall())
                return True

    def _match(self, phrases: list[str]) -> bool:
        """The fewest stretches that hold the words; they are then used up."""
        if self._searched == (self._at, len(self._heard)):
            return False
        for count in range(1, len(self._heard) + 1):
            if hears_any(phrases, " ".join(heard.text for heard in self._heard[:count])):
                self._past_ms = max(self._past_ms, self._heard[count - 1].end_ms)
                del self._heard[:count]
                return True
        self._searched = (self._at, len(self._heard))
        return False

    def _say(self, step: Say | Interrupt, now_ms: float, speaking: bool, actions: list[CallerAction]) -> bool:
        if self._spoke:
            return not speaking
        self._spoke = True
        self._past_ms = max(self._past_ms, now_ms)
        actions.append(Speak(step))
        return False

    def _insist(self, step: SayUntil, now_ms: float, speaking: bool, actions: list[CallerAction]) -> bool:
        if speaking:
            self._tried_ms = now_ms
            return False
        if self._tries and self._match(step.phrases):
            return True
        asked_again = any(heard.end_ms > self._past_ms for heard in self._heard)
        our_turn = asked_again and not self._agent_speaking and now_ms - self._quiet_since_ms >= _TURN_MS
        tries: list[CallerAction] = [Speak(words) for words in step.says]
        if step.or_press is not None:
            tries.append(PressKey(step.or_press))
        if self._tries == 0 or (our_turn and self._tries < len(tries)):
            actions.append(tries[self._tries])
            self._tries += 1
            self._past_ms = self._tried_ms = now_ms
            return False
        return self._late(step.timeout_ms, now_ms - self._tried_ms, actions)

    def _due(self, after_ms: int, now_ms: float) -> bool:
        next_ms = next((start_ms for start_ms in self._speech_starts_ms if start_ms >= self._past_ms), None)
        return next_ms is not None and now_ms >= next_ms + after_ms

    def _press(self, digits: str, waited_ms: float, actions: list[CallerAction]) -> bool:
        due = min(len(digits), int(waited_ms / KEY_GAP_MS) + 1)
        actions += [PressKey(digit) for digit in digits[self._keys_pressed : due]]
        self._keys_pressed = due
        return waited_ms >= len(digits) * KEY_GAP_MS

    def _late(self, timeout_ms: int, waited_ms: float, actions: list[CallerAction]) -> bool:
        if waited_ms >= timeout_ms:
            self._ended = True
            actions.append(EndCall(self._complaint(timeout_ms)))
        return False

    def _complaint(self, timeout_ms: int) -> str:
        heard = " ".join(heard.text for heard in self._heard).strip() or "nothing"
        where = f"script.steps[{self._at}]"
        match self._steps[self._at]:
            case WaitFor() as step:
                wanted = " or ".join(repr(phrase) for phrase in step.phrases)
                return f"{where}: waited {timeout_ms} ms for {wanted}; heard: {heard}"
            case SayUntil() as step:
                wanted = " or ".join(repr(phrase) for phrase in step.phrases)
                return f"{where}: tried {self._tries} times and did not hear {wanted}; heard: {heard}"
            case Interrupt():
                return f"{where}: the agent did not speak for {timeout_ms} ms, so nobody could be interrupted"
            case _:
                return f"{where}: the agent did not fall silent for {timeout_ms} ms"

"""Speech-to-text by the carrier, which listens along and tells words by webhook: late, in any order, or not.

Puts what is told together by turns. Knows no webhook and no command; whoever asks sets the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backend.core.hearing import RATE_HZ, asks_again
from backend.errors import HearingError

# No recogniser ends a sentence so soon after it began: what comes then is of the turn before.
_TOO_SOON_S = 0.4
# Final words told so shortly before the pause was noticed may be all there is.
_JUST_BEFORE_S = 0.3
# Nothing told for so long, and nothing since the turn before: it does not listen.
_DEAF_S = 4.0
_MOST_CLOCKS = 16
_MOST_FINALS = 400  # of one turn; a caller who talks for ten minutes makes some 150


@dataclass(slots=True)
class _Turn:
    began_s: float
    finals: list[tuple[str, int, str]] = field(
        default_factory=list
    )  # when the carrier says, order here, words
    last_final_s: float = float("-inf")
    so_far: str = ""
    so_far_at: str = ""

    def knows(self, at: str, words: str) -> bool:
        return any((at, words) == (when, text) for when, _, text in self.finals)

    def text(self) -> str:
        words = [text for _, _, text in sorted(self.finals)]
        return " ".join(filter(None, (*words, self.so_far)))


class TelnyxTranscriber:
    """One call's ears at the carrier. `told` is called with what its webhooks say."""

    name = "telnyx"

    def __init__(
        self,
        start: Callable[[], Awaitable[None]],
        *,
        patience_s: float = 1.1,
        silence_s: float = 1.4,
        alone: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` has the carrier listen; raises HearingError. After `patience_s` words that are not final
        will do; after `silence_s` without any, it was a sound and no words. Of a short one that is doubtful:
        unless `alone`, somebody else is to be asked. `clock`: seconds, monotonic."""
        self._start, self._patience_s, self._silence_s = start, patience_s, silence_s
        self._alone = alone
        self._clock = clock
        self._turn = _Turn(float("-inf"))
        # Its clock before ours, less the way here, of what it told last. Not of all it ever told: a clock
        # of its that was wrong once would make everything after seem late.
        self._ahead_s: deque[float] = deque(maxlen=_MOST_CLOCKS)
        self._alive = False  # it told something since it was last silent
        self._news = asyncio.Event()
        self._listening = self._closed = False
        self._starting = asyncio.Lock()

    async def connect(self) -> None:
        """Have the carrier listen, unless it does. Raises HearingError."""
        async with self._starting:
            if not self._listening:
                await self._start()
                self._listening = True

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        """The carrier hears the line itself; only where a turn begins is of interest."""
        if begins:
            self._turn = _Turn(self._clock())

    def told(self, text: str, *, final: bool, at: str = "") -> None:
        """The carrier heard this; `at`: its own time of it, as text that sorts."""
        turn, now_s, words = self._turn, self._clock(), " ".join(text.split())
        self._alive = True
        if self._told_s(at, now_s) - turn.began_s < _TOO_SOON_S:
            return
        if final:
            if len(turn.finals) < _MOST_FINALS and not (at and turn.knows(at, words)):
                turn.finals.append((at, len(turn.finals), words))
            turn.last_final_s = now_s
            if at >= turn.so_far_at:
                turn.so_far = ""
        elif not at or at >= max((item[0] for item in turn.finals), default=""):
            turn.so_far, turn.so_far_at = words, at
        self._news.set()

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """The turn's words, once the last of them are final or patience is at its end.

        "" when a carrier that does listen tells of none. Raises HearingError.
        """
        if not self._listening:
            # It did not when the call began: perhaps from the next words on. No other call suffers for it.
            await self.connect()
            what = "Telnyx: the carrier begins to listen to this call only now"
            raise HearingError(what, route=self.name, reason="bad_request")
        turn, asked_s = self._turn, self._clock()
        patient_until_s = asked_s + self._patience_s
        while not self._closed:
            settled = not turn.so_far and turn.last_final_s >= asked_s - _JUST_BEFORE_S
            left_s = patient_until_s - self._clock()
            if settled or (left_s <= 0 and turn.text()):
                return turn.text()
            if left_s <= 0:
                silent_s = self._clock() - asked_s
                if self._alive and silent_s >= self._silence_s:
                    self._alive = False  # twice without a word: perhaps it listens no more
                    if self._alone or asks_again(len(pcm16_8k) / 2 * 1000 / RATE_HZ):
                        return ""
                    # No failure, it may have been a cough; or a "yes", which comes later.
                    what = "Telnyx: told nothing of a short sound"
                    raise HearingError(what, route=self.name, reason="bad_request")
                if silent_s >= max(_DEAF_S, self._silence_s):
                    what = f"Telnyx: told nothing of what the caller said within {silent_s:.1f} s"
                    raise HearingError(what, route=self.name, reason="timeout")
                left_s = (self._silence_s if self._alive else max(_DEAF_S, self._silence_s)) - silent_s
            self._news.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                continue
        raise HearingError("Telnyx: these ears were closed", route=self.name, reason="closed")

    def _told_s(self, at: str, now_s: float) -> float:
        """When the carrier told it, on our clock: a webhook that was held up tells of a turn that is over."""
        try:
            said = datetime.fromisoformat(at)
        except ValueError:
            return now_s
        at_s = (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
        self._ahead_s.append(at_s - now_s)
        return at_s - max(self._ahead_s)  # the shortest way

    async def aclose(self) -> None:
        """The carrier stops by itself when the call ends."""
        self._closed = True
        self._news.set()

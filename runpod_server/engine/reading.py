"""What is read in the gap between two frames: in what order, and how much of it.

Pure: time is passed in. Knows neither prompts nor listeners, only when they came and what is left to play.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from runpod_server.engine.speech_plan import FRAME_MS

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """Milliseconds."""

    margin_ms: float = 30.0  # of sound that reading for others leaves every listener,
    spreads: float = 3.0  # and so many times what frames take otherwise than foreseen
    fullest: float = 0.6  # of the time a frame lasts: as long as one and a prompt may take with those read
    longest_ms: float = 200.0  # of a gap: whoever was read in it waits for its first frame until it is over
    new_patience_ms: float = 3000.0  # who has waited so long comes before all who are spoken to
    heard_patience_ms: float = 3300.0  # what nobody waits to hear comes after all who came 0.3 s later


class ReadingQueue(Generic[Item]):
    """Items by the time they are due, the earliest first; of those due at once, in the order they came.

    What is due never changes but to an earlier time: so nothing waits for what is put in with a later one.
    """

    def __init__(self) -> None:
        self._came = 0
        self._waiting: list[tuple[float, int, Item]] = []  # sorted; no two came at once

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Item]:
        return iter([item for _, _, item in self._waiting])

    def put(self, item: Item, due_ms: float) -> None:
        """It waits from now on."""
        self._came += 1
        bisect.insort(self._waiting, (due_ms, self._came, item))

    def first(self) -> Item:
        """Whose turn it is. Raises IndexError when nobody waits."""
        return self._waiting[0][2]

    def remove(self, item: Item) -> None:
        """It waits no more; harmless when it did not."""
        self._waiting = [each for each in self._waiting if each[2] is not item]

    def hasten(self, item: Item, due_ms: float) -> None:
        """It is due by then at the latest, and before all that came after it and are due then."""
        self._waiting = sorted(
            (min(due, due_ms) if each is item else due, came, each) for due, came, each in self._waiting
        )


class Costs:
    """What a frame takes, and what a prompt that is read before it adds, as learnt from frames gone by."""

    _LEARNS_LONGER, _LEARNS_SHORTER = 0.7, 0.3  # of what a frame took otherwise than foreseen
    _LEARNS_SPREAD = 0.1

    def __init__(self) -> None:
        self.step_ms: float | None = None
        self.read_ms: float | None = None
        self.streams = 0  # in the last frame
        self.spread_ms = 0.0  # how far off it was, on average

    def learn_read(self, took_ms: float) -> None:
        """A prompt took the host so long. A first guess: on a GPU most of the work is yet to come."""
        if self.read_ms is None:
            self.read_ms = took_ms

    def learn_frame(self, took_ms: float, prompts: int, streams: int = 1) -> None:
        """So long after the frame before came this one, with so many prompts read between them."""
        self.streams = streams
        if self.step_ms is None or self.read_ms is None:
            self.step_ms = max(0.0, took_ms - prompts * (self.read_ms or 0.0))
            return
        # Least mean squares: the sum is right even where every gap has its prompt, the parts where they vary.
        wrong_ms = took_ms - self.step_ms - prompts * self.read_ms
        self.spread_ms += self._LEARNS_SPREAD * (abs(wrong_ms) - self.spread_ms)
        learns = self._LEARNS_LONGER if wrong_ms > 0 else self._LEARNS_SHORTER
        change = learns * wrong_ms / (1 + prompts * prompts)
        self.step_ms = max(0.0, self.step_ms + change)
        self.read_ms = max(0.0, self.read_ms + change * prompts)

    def most_more(self, frame_ms: float) -> float:
        """So many streams more, and a frame and a prompt take no longer; as if a frame grew with them."""
        if not self.step_ms or not self.streams:
            return math.inf
        return self.streams * max(0.0, (frame_ms - (self.read_ms or 0.0)) / self.step_ms - 1)

    @property
    def is_slow(self) -> bool:
        """Whether frames take about as long as they last."""
        return self.step_ms is not None and self.step_ms > 0.9 * FRAME_MS


class Gap:
    """One gap between two frames. `leads_ms`: what is left to each listener who is being spoken to."""

    def __init__(self, rules: ReadingRules, costs: Costs, leads_ms: Iterable[float], began_ms: float) -> None:
        self._costs, self._began_ms = costs, began_ms
        self.prompts = 0
        least_ms = min(leads_ms, default=math.inf)
        # The frame that follows takes its time too, before it brings them more.
        spare_ms = least_ms - rules.margin_ms - rules.spreads * costs.spread_ms - (costs.step_ms or 0.0)
        if least_ms < math.inf and (costs.step_ms is None or costs.read_ms is None):
            spare_ms = 0.0
        self.budget_ms = max(0.0, min(rules.longest_ms, spare_ms))
        # Too many at once would all be spoken to too slowly: better that some wait.
        self._most = costs.most_more(rules.fullest * FRAME_MS) if least_ms < math.inf else math.inf

    def allows_prompt(self, now_ms: float) -> bool:
        """Whether one more prompt may be read. The first always: nobody starves, however bad the time."""
        if not self.prompts:
            return True
        if self.prompts + 1 > self._most:
            return False
        each_ms = self._costs.read_ms or 0.0
        spent_ms = max(now_ms - self._began_ms, self.prompts * each_ms)
        return spent_ms < self.budget_ms and spent_ms + each_ms <= self.budget_ms

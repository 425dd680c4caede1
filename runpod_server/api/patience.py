"""How long a server waits for a client that takes its sound slowly, and meanwhile keeps a slot. Pure."""

from __future__ import annotations

from dataclasses import dataclass

SEND_DEADLINE_S = 30.0  # a client that takes nothing for this long is gone
_PLAY_TIMES = 2.0


@dataclass(slots=True)
class Patience:
    """Of one utterance: at most `deadline_s` at once; and in all that, and twice what its sound so far plays.

    So a client may play at half speed, or stop to think once, but not hold a slot by taking a little now and
    then.
    """

    deadline_s: float = SEND_DEADLINE_S
    waited_s: float = 0.0

    def left_s(self, sent_ms: float) -> float:
        """How long the next message may take, when so much sound went before it."""
        in_all_s = self.deadline_s + _PLAY_TIMES * sent_ms / 1000
        return max(0.0, min(self.deadline_s, in_all_s - self.waited_s))

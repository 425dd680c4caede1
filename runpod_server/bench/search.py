"""The largest number of streams that holds, by doubling and halving. Pure: told what held, says what next."""

from __future__ import annotations

from collections.abc import Mapping

_FINE = 16  # the answer is within a sixteenth of itself


def next_to_try(held: Mapping[int, bool], *, most: int) -> int | None:
    """The next number of streams to try, given which numbers held; None: the answer is known well enough."""
    best = largest(held)
    broke = min((streams for streams, good in held.items() if not good and streams > best), default=None)
    if broke is None:
        return None if best >= most else min(max(1, 2 * best), most)
    step = max(1, best // _FINE)
    if broke - best <= step:
        return None
    return best + max(step, (broke - best) // 2)


def largest(held: Mapping[int, bool]) -> int:
    """The largest that held with nothing smaller that broke; 0: none."""
    smallest_broken = min((streams for streams, good in held.items() if not good), default=None)
    good = (streams for streams, is_good in held.items() if is_good)
    return max((each for each in good if smallest_broken is None or each < smallest_broken), default=0)

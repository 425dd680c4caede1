"""What a call costs: an estimate from list prices while it goes on, and the carrier's bill afterwards.

US dollars. Time is passed in; what was used is told. Pure.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from backend.errors import ConfigError

_MAX_PARTS = 50


@dataclass(frozen=True, slots=True)
class Prices:
    """Telnyx's list prices (US, 2026). What models and voices cost only their vendors know: told, or nothing.

    A call's minutes count from their beginning (https://support.telnyx.com/en/articles/1130659-billing-increments:
    "60/60"). How streaming and recording are rounded is not told: they count by the second.
    """

    call_minute: float = 0.002
    inbound_minute: float = 0.0035
    outbound_minute: float = 0.005
    streaming_minute: float = 0.0035
    recording_minute: float = 0.002
    detection: float = 0.002
    transfer: float = 0.1
    million_prompt_tokens: float = 0.0
    million_completion_tokens: float = 0.0
    elevenlabs_thousand_characters: float = 0.0


def parse_prices(text: str) -> Prices:
    """Prices out of a JSON object, the others as they are. Raises ConfigError, which names what is wrong."""
    if not text.strip():
        return Prices()
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"PRICES_USD is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError('PRICES_USD must be a JSON object like {"call_minute": 0.002}')
    known = [field.name for field in fields(Prices)]
    for name, price in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"PRICES_USD: there is no price {name!r}; {hint}")
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise ConfigError(f"PRICES_USD: {name} must be a number of US dollars, 0 or more, not {price!r}")
    return Prices(**{name: float(price) for name, price in given.items()})


class Meter:
    """One call's. Times are milliseconds on any one clock."""

    def __init__(self, prices: Prices, *, outbound: bool = False) -> None:
        rate = prices.outbound_minute if outbound else prices.inbound_minute
        self._prices = prices
        self._begun_minute_usd = prices.call_minute + rate
        self._answered_ms: float | None = None
        self._recording_ms: float | None = None
        self._recorded_ms = self._once_usd = 0.0

    def answered(self, now_ms: float, *, detection: bool = False) -> None:
        """Somebody picked up; `detection`: the carrier finds out who."""
        self._answered_ms = now_ms
        self._once_usd += self._prices.detection if detection else 0.0

    def recording(self, on: bool, now_ms: float) -> None:
        """The carrier records from now on, or no more."""
        if self._recording_ms is not None:
            self._recorded_ms += now_ms - self._recording_ms
        self._recording_ms = now_ms if on else None

    def transferred(self) -> None:
        """The call was handed over."""
        self._once_usd += self._prices.transfer

    def thought(self, prompt_tokens: int, completion_tokens: int) -> None:
        """The language model was asked."""
        prices = self._prices
        self._once_usd += prompt_tokens * prices.million_prompt_tokens / 1e6
        self._once_usd += completion_tokens * prices.million_completion_tokens / 1e6

    def spoke(self, route: str, characters: int) -> None:
        """A speech route spoke so much."""
        if route.startswith("elevenlabs"):
            self._once_usd += characters * self._prices.elevenlabs_thousand_characters / 1e3

    def used_usd(self, now_ms: float) -> float | None:
        """What was used so far, all of it by the second; None for a call that nobody answered."""
        talked_min = self._talked_min(now_ms)
        return None if talked_min is None else self._usd(talked_min, talked_min, now_ms)

    def usd(self, now_ms: float) -> float | None:
        """The estimate for a call that ends now; None for one that nobody answered."""
        talked_min = self._talked_min(now_ms)
        if talked_min is None:
            return None
        return self._usd(max(1, math.ceil(talked_min)), talked_min, now_ms)

    def _talked_min(self, now_ms: float) -> float | None:
        return None if self._answered_ms is None else (now_ms - self._answered_ms) / 60_000

    def _usd(self, billed_min: float, streamed_min: float, now_ms: float) -> float:
        recording_ms = now_ms - self._recording_ms if self._recording_ms is not None else 0.0
        recorded_min = (self._recorded_ms + recording_ms) / 60_000
        return (
            billed_min * self._begun_minute_usd
            + streamed_min * self._prices.streaming_minute
            + recorded_min * self._prices.recording_minute
            + self._once_usd
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """What the carrier charges, in all and by part."""

    usd: float
    parts: Mapping[str, float]


def billed(payload: Mapping[str, Any]) -> Bill | None:
    """The bill that a `call.cost` tells; None when it tells none."""
    total = _usd(payload.get("total_cost"))
    if total is None or payload.get("status") == "error":
        return None
    parts: dict[str, float] = {}
    told = payload.get("cost_parts")
    for part in told[:_MAX_PARTS] if isinstance(told, list) else ():
        cost = _usd(part.get("cost")) if isinstance(part, Mapping) else None
        if cost is not None:
            name = str(part.get("call_part") or "other")[:64].replace("\0", "")
            parts[name] = parts.get(name, 0.0) + cost
    return Bill(total, parts)


def _usd(value: object) -> float | None:
    try:
        usd = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return None
    return usd if math.isfinite(usd) else None

"""One way a call may speak, as the composition root offers it to the call: a list of these, best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.core.health import RouteKey

if TYPE_CHECKING:
    from backend.calls.ports import SpeechRoute


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A route a call may use. `make` gives an adapter of the call's own, not yet connected."""

    key: RouteKey
    voice_id: str
    """Whose voice, as far as its sound goes: for calibration and for prepared prompts."""
    make: Callable[[], SpeechRoute]

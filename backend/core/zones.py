"""Time zones of agents: which names there are, and what a moment is called there."""

from __future__ import annotations

import difflib
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones


def check_zone(name: str) -> str:
    """The name, if the IANA database has it. Raises ValueError, which names the nearest, if not."""
    known = available_timezones()
    if name in known:
        return name
    by_small = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), sorted(by_small), n=1, cutoff=0.5)
    hint = f"did you mean {by_small[near[0]]!r}?" if near else "write one like 'America/New_York'"
    raise ValueError(f"there is no time zone {name!r}; {hint}")


def local(moment: datetime, zone: str | None) -> datetime:
    """The moment as clocks show it in the zone; without one, as this machine's does."""
    return moment.astimezone(ZoneInfo(zone) if zone else None)

"""Days and names of time zones."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from backend.core.zones import check_zone, local


def test_a_moment_has_the_day_of_the_zone() -> None:
    night = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)
    assert local(night, "America/Los_Angeles").date() == date(2026, 11, 30)
    assert local(night, "Asia/Tokyo").date() == date(2026, 12, 1)


@pytest.mark.parametrize("name", ["America/New York", "america/new_york", "America/NewYork"])
def test_a_wrong_name_gets_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'America/New_York'"):
        check_zone(name)

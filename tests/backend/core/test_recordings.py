"""Which recording is meant: word of them comes late, twice, in any order and without a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from backend.core.recordings import failed, placed, saved
from backend.core.records import CallRecording

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYLOAD = {
    "call_leg_id": "leg",
    "channels": "dual",
    "recording_started_at": "2026-03-01T12:00:00.5Z",
    "recording_ended_at": "2026-03-01T12:01:00+00:00",
    "recording_urls": {"mp3": "https://bucket.example/a.mp3?sig=x", "wav": None},
}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def begun(seconds: float) -> CallRecording:
    return CallRecording("started", at(seconds), channels="dual")


def is_saved(seconds: float, url: str = "u") -> CallRecording:
    return CallRecording("saved", at(seconds), at(seconds + 20), "dual", {"mp3": url})


def after(*told: CallRecording) -> list[CallRecording]:
    known: dict[int, CallRecording] = {}
    for item in told:
        found = placed([known[index] for index in sorted(known)], item)
        if found is not None:
            known[found.index] = found
    return [known[index] for index in sorted(known)]


def test_what_the_carrier_tells() -> None:
    told = saved(PAYLOAD)
    assert (told.state, told.started_at, told.ended_at) == ("saved", at(0.5), at(60))
    assert (told.channels, told.urls) == ("dual", {"mp3": "https://bucket.example/a.mp3?sig=x"})
    assert "sig" not in repr(told)


def test_public_addresses_are_preferred() -> None:
    told = saved({**PAYLOAD, "public_recording_urls": {"mp3": "https://public.example/a.mp3"}})
    assert told.urls == {"mp3": "https://public.example/a.mp3"}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"recording_urls": "no", "channels": 2, "recording_started_at": 7},
        {"recording_urls": {"mp3": 1}, "recording_started_at": "noon", "recording_ended_at": None},
        {"recording_urls": {"mp3": "x" * 9000}},
    ],
)
def test_what_makes_no_sense_is_a_failure_and_no_crash(broken: dict[str, object]) -> None:
    told = saved(broken)
    assert (told.state, told.started_at, told.urls) == ("failed", None, {})
    assert told.problem


def test_a_time_without_a_zone_is_utc() -> None:
    assert saved({**PAYLOAD, "recording_started_at": "2026-03-01T12:00:00"}).started_at == NOON


def test_the_one_begun_is_the_one_saved() -> None:
    (only,) = after(begun(0), is_saved(1.2))
    assert (only.state, only.started_at, only.urls) == ("saved", at(1.2), {"mp3": "u"})


def test_twice_is_once_and_the_later_address_counts() -> None:
    (only,) = after(begun(0), is_saved(1.2, "old"), is_saved(1.2, "new"))
    assert only.urls == {"mp3": "new"}


def test_any_order_of_two_recordings_gives_the_same() -> None:
    told = (begun(0), begun(30), is_saved(0.4, "first"), is_saved(30.4, "second"))
    for order in permutations(told):
        known = after(*order)
        assert sorted((item.state, item.urls.get("mp3")) for item in known) == [
            ("saved", "first"),
            ("saved", "second"),
        ], order


def test_a_refusal_belongs_to_the_one_begun() -> None:
    (only,) = after(begun(0), CallRecording("failed", at(0), problem="refused"))
    assert (only.state, only.problem) == ("failed", "refused")


def test_an_error_of_the_carriers_belongs_to_the_one_that_waits_and_comes_once() -> None:
    told = failed({"reason": "Internal server error"}, at(50))
    (only,) = after(begun(0), told, told)
    assert (only.state, only.started_at, only.channels) == ("failed", at(0), "dual")
    assert only.problem == "the carrier could not save it: Internal server error"


def test_what_was_saved_stays_saved() -> None:
    (only,) = after(is_saved(0), CallRecording("failed", at(0), problem="refused"), begun(0.1))
    assert only.state == "saved"


def test_one_nobody_here_began_is_kept_too() -> None:
    assert [item.index for item in after(is_saved(0), is_saved(40))] == [0, 1]

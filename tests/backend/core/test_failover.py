from __future__ import annotations

import pytest

from backend.core.failover import Patience, Watch, counts_against_route

PATIENCE = Patience(first_audio_ms=1500, switch_ms=450, stall_ms=500)


def test_the_first_sound_has_its_deadline() -> None:
    assert Watch(PATIENCE, 1000, lead_ms=0).give_up_ms(1000, 0) == 2500


def test_a_long_lead_gives_more_time_for_the_first_sound_of_the_next_sentence() -> None:
    assert Watch(PATIENCE, 1000, lead_ms=5000).give_up_ms(1000, 5000) == 1000 + 5000 - 450
    assert Watch(PATIENCE, 1000, lead_ms=700).give_up_ms(1000, 700) == 2500, "never less than the deadline"


@pytest.mark.parametrize(("lead_ms", "patience_ms"), [(0, 500), (900, 500), (3000, 2550)])
def test_between_chunks_the_lead_is_used_up_but_for_what_another_route_needs(
    lead_ms: float, patience_ms: float
) -> None:
    watch = Watch(PATIENCE, 0, lead_ms=0)
    watch.got(80, asked_ms=0, now_ms=120)
    assert watch.first_audio_ms == 120
    assert watch.give_up_ms(1000, lead_ms) == 1000 + patience_ms


def _fed(speed: float, seconds: float, *, chunk_ms: float = 200.0) -> Watch:
    watch = Watch(PATIENCE, 0, lead_ms=0)
    now_ms = 100.0
    watch.got(80, asked_ms=0, now_ms=now_ms)
    while now_ms < seconds * 1000:
        asked_ms, now_ms = now_ms, now_ms + chunk_ms / speed
        watch.got(chunk_ms, asked_ms=asked_ms, now_ms=now_ms)
    return watch


def test_slower_than_real_time_is_noticed_once_the_line_runs_dry() -> None:
    assert _fed(0.8, 1.0).is_too_slow(lead_ms=0)
    assert not _fed(0.8, 1.0).is_too_slow(lead_ms=300), "nobody hears it yet"
    assert not _fed(0.8, 0.3).is_too_slow(lead_ms=0), "too early to tell"


@pytest.mark.parametrize("speed", [0.95, 1.0, 4.0])
def test_as_fast_as_it_plays_is_fast_enough(speed: float) -> None:
    assert not _fed(speed, 3.0).is_too_slow(lead_ms=0)


def test_time_in_which_we_made_the_server_wait_does_not_count() -> None:
    watch = Watch(PATIENCE, 0, lead_ms=0)
    watch.got(80, asked_ms=0, now_ms=100)
    for second in range(1, 10):  # asked for late, given at once
        watch.got(200, asked_ms=second * 1000, now_ms=second * 1000 + 5)
    assert not watch.is_too_slow(lead_ms=0)


def test_hedging() -> None:
    assert Watch(PATIENCE, 0, lead_ms=0).hedge_ms() is None
    hedging = Patience(hedge_ms=300)
    assert Watch(hedging, 100, lead_ms=0).hedge_ms() == 400
    assert Watch(hedging, 100, lead_ms=2000).hedge_ms() == 100 + 2000 - 450


def test_our_own_bad_input_is_not_the_routes_fault() -> None:
    assert not counts_against_route("bad_request")
    assert counts_against_route("timeout")

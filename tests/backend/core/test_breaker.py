from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.breaker import CROWDED, OPERATOR, OUR_OWN, Breaker, BreakerPolicy
from backend.errors import SpeechFailure

REASONS = get_args(SpeechFailure)
COUNTED = sorted(set(REASONS) - OPERATOR - CROWDED - OUR_OWN)
POLICY = BreakerPolicy()


def opened(reason: SpeechFailure = "timeout", now_ms: float = 0.0) -> Breaker:
    breaker = Breaker()
    while breaker.state(now_ms) == "closed":
        breaker.failed(reason, now_ms)
    return breaker


@pytest.mark.parametrize("reason", COUNTED)
def test_one_failure_is_none_three_open(reason: SpeechFailure) -> None:
    breaker = Breaker()
    breaker.failed(reason, 0)
    assert breaker.allows(0) and breaker.reason is None
    breaker.failed(reason, 10)
    breaker.failed(reason, 20)
    assert (breaker.state(20), breaker.allows(20), breaker.reason) == ("open", False, reason)


def test_some_kinds_weigh_more() -> None:
    breaker = Breaker()
    breaker.failed("unreachable", 0)
    breaker.failed("unreachable", 1)
    assert breaker.state(1) == "open"


@pytest.mark.parametrize("reason", sorted(OPERATOR | CROWDED))
def test_refusals_open_at_once(reason: SpeechFailure) -> None:
    breaker = Breaker()
    breaker.failed(reason, 0)
    assert not breaker.allows(0)
    assert breaker.retry_in_ms(0) == (POLICY.operator_ms if reason in OPERATOR else POLICY.crowded_ms)


def test_failures_long_apart_are_forgotten() -> None:
    breaker = Breaker()
    for number in range(50):
        breaker.failed("timeout", number * (POLICY.window_ms / 2 + 1))
    assert breaker.state(50 * POLICY.window_ms) == "closed"


@pytest.mark.parametrize(("one_failure_in", "state"), [(10, "closed"), (3, "open"), (2, "open")])
def test_a_share_of_failures_is_borne(one_failure_in: int, state: str) -> None:
    breaker = Breaker()
    states = set()
    for number in range(400):
        if number % one_failure_in == 0:
            breaker.failed("timeout", number)
        else:
            breaker.succeeded(number)
        states.add(breaker.state(number))
    assert state in states and (state == "open" or "open" not in states)


def test_one_tries_while_the_others_wait() -> None:
    breaker = opened(now_ms=0)
    later_ms = POLICY.cool_down_ms
    assert breaker.state(later_ms - 1) == "open" and breaker.state(later_ms) == "half_open"
    assert breaker.allows(later_ms) and breaker.allows(later_ms)  # asking changes nothing
    breaker.began(later_ms)
    assert not breaker.allows(later_ms + 1)
    assert breaker.retry_in_ms(later_ms) == POLICY.trial_ms
    breaker.succeeded(later_ms + 200)
    assert breaker.state(later_ms + 200) == "closed" and breaker.reason is None


@pytest.mark.parametrize("how", ["lost", "cancelled", "our own fault"])
def test_a_trial_that_tells_nothing_makes_room_for_another(how: str) -> None:
    breaker = opened(now_ms=0)
    now_ms = POLICY.cool_down_ms
    breaker.began(now_ms)
    if how == "cancelled":
        breaker.gave_up()
    elif how == "our own fault":
        breaker.failed("bad_request", now_ms)
    else:
        now_ms += POLICY.trial_ms
    assert breaker.state(now_ms) == "half_open" and breaker.allows(now_ms)


def test_cool_downs_grow_to_a_bound_and_are_short_again_after_a_good_time() -> None:
    breaker, now_ms, waits = opened(now_ms=0), 0.0, []
    for _ in range(2000):
        waits.append(breaker.retry_in_ms(now_ms))
        now_ms += waits[-1]
        breaker.began(now_ms)
        breaker.failed("timeout", now_ms)
    assert waits[:4] == pytest.approx([4000, 8000, 16_000, 32_000])
    assert max(waits) == pytest.approx(POLICY.cool_down_ms * POLICY.longest)
    now_ms += breaker.retry_in_ms(now_ms)
    breaker.succeeded(now_ms)
    now_ms += POLICY.settled_ms
    for _ in range(3):
        breaker.failed("timeout", now_ms)
    assert breaker.retry_in_ms(now_ms) == POLICY.cool_down_ms


def test_a_crowded_route_is_never_left_alone_for_long() -> None:
    breaker, now_ms = opened("busy"), 0.0
    for _ in range(20):
        now_ms += breaker.retry_in_ms(now_ms)
        breaker.failed("rate_limited", now_ms)
    assert breaker.retry_in_ms(now_ms) == pytest.approx(POLICY.crowded_ms * POLICY.longest_crowded)


def test_one_that_fails_right_after_it_recovered_waits_longer() -> None:
    breaker, now_ms = opened(now_ms=0), POLICY.cool_down_ms
    breaker.succeeded(now_ms)
    for _ in range(3):
        breaker.failed("timeout", now_ms + 1)
    assert breaker.retry_in_ms(now_ms + 1) == 2 * POLICY.cool_down_ms


def test_what_was_under_way_proves_a_route_but_not_a_refused_key() -> None:
    late = opened("closed")
    late.succeeded(1)
    assert late.state(1) == "closed"
    for reason in ("quota", "busy"):
        refused = opened(reason)
        refused.succeeded(1)
        assert refused.state(1) == "open"


def test_a_refused_key_outlasts_a_dropped_connection() -> None:
    breaker = opened("closed")
    breaker.failed("timeout", 1)
    assert breaker.reason == "closed"
    breaker.failed("unauthorized", 2)
    assert breaker.reason == "unauthorized" and breaker.retry_in_ms(2) >= POLICY.operator_ms


def test_a_probe_settles_only_what_it_has_seen() -> None:
    breaker = opened("unreachable")
    breaker.probed(1, settles={"quota"})
    assert breaker.state(1) == "open"
    breaker.probed(1, settles={"unreachable", "not_ready"})
    assert breaker.state(1) == "closed"
    silent = opened("no_audio")
    silent.probed(1, settles={"unreachable", "not_ready"})
    assert silent.state(1) == "open"


def test_a_failed_probe_opens_and_keeps_it_open() -> None:
    breaker = Breaker()
    breaker.probe_failed("timeout", 0)
    assert breaker.state(0) == "closed"
    breaker.probe_failed("unreachable", 1)
    assert breaker.state(1) == "open"
    until_ms = 1 + breaker.retry_in_ms(1)
    breaker.probe_failed("unreachable", until_ms - 1)
    assert breaker.state(until_ms) == "open"
    breaker.probe_failed("not_ready", until_ms, hold_ms=600_000)
    assert breaker.retry_in_ms(until_ms) == pytest.approx(600_000)


# --- whatever happens --------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(["began", "succeeded", "gave_up", "probed"]),
            st.sampled_from(REASONS).map(lambda reason: f"failed {reason}"),
            st.sampled_from(REASONS).map(lambda reason: f"probe_failed {reason}"),
        ),
        st.floats(0, 60_000),
    ),
    max_size=60,
)


def play(steps: list[tuple[str, float]]) -> tuple[Breaker, float]:
    breaker, now_ms = Breaker(), 0.0
    for step, wait_ms in steps:
        now_ms += wait_ms
        name, _, reason = step.partition(" ")
        match name:
            case "began" | "succeeded":
                getattr(breaker, name)(now_ms)
            case "gave_up":
                breaker.gave_up()
            case "probed":
                breaker.probed(now_ms, settles={"unreachable"})
            case _:
                getattr(breaker, name)(reason, now_ms)
        check(breaker, now_ms)
    return breaker, now_ms


def check(breaker: Breaker, now_ms: float) -> None:
    state, retry_ms = breaker.state(now_ms), breaker.retry_in_ms(now_ms)
    assert breaker.allows(now_ms) == (retry_ms == 0)
    assert (state == "closed") == (breaker.reason is None)
    assert state != "closed" or retry_ms == 0
    assert retry_ms <= POLICY.operator_ms * POLICY.longest + 0.001  # rounding
    assert breaker.reason not in OUR_OWN
    assert len(breaker._failures) <= POLICY.weight  # bounded, whatever is told


@given(STEPS)
def test_it_is_always_of_one_mind(steps: list[tuple[str, float]]) -> None:
    breaker, now_ms = play(steps)
    # Every opening ends, and what is asked then leads back to use.
    now_ms += breaker.retry_in_ms(now_ms) + 0.001
    assert breaker.allows(now_ms)
    breaker.began(now_ms)
    breaker.succeeded(now_ms)
    assert breaker.state(now_ms) == "closed"


@given(STEPS, st.floats(0, 1000))
def test_bad_input_of_ours_never_counts(steps: list[tuple[str, float]], wait_ms: float) -> None:
    breaker, now_ms = play(steps)
    now_ms += wait_ms
    before = (breaker.state(now_ms), list(breaker._failures))
    for _ in range(20):
        breaker.failed("bad_request", now_ms)
        breaker.probe_failed("bad_request", now_ms)
    assert (breaker.state(now_ms), list(breaker._failures)) == before


@given(st.lists(st.tuples(st.sampled_from(COUNTED), st.floats(0, 5_000)), min_size=3, max_size=20))
def test_failures_in_a_row_within_the_window_open(failures: list[tuple[SpeechFailure, float]]) -> None:
    breaker, now_ms, opened_at = Breaker(), 0.0, None
    for number, (reason, wait_ms) in enumerate(failures):
        now_ms += wait_ms
        breaker.failed(reason, now_ms)
        if opened_at is None and breaker.state(now_ms) != "closed":
            opened_at = number
    assert opened_at in (1, 2)

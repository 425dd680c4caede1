from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.pods import Pod, PodReport, pick


def pod(name: str, *, active: int = 0, capacity: int | None = 32, usable: bool = True, **more: float) -> Pod:
    return Pod(name, usable, PodReport(active=active, capacity=capacity), **{"round_trip_ms": 10.0, **more})


def spread(pods: list[Pod], calls: int, *, seed: int = 1) -> Counter[str]:
    """Where so many calls go that all begin before a server is looked at again."""
    chance, by_url = random.Random(seed).random, {pod.url: pod for pod in pods}
    for _ in range(calls):
        chosen = pick(list(by_url.values()), chance)
        assert chosen is not None
        by_url[chosen.url] = replace(chosen, recent=chosen.recent + 1)
    return Counter({url: int(pod.recent) for url, pod in by_url.items()})


def test_calls_that_begin_at_once_do_not_pile_on_one() -> None:
    sent = spread([pod(f"pod-{number}") for number in range(4)], 64)
    assert max(sent.values()) - min(sent.values()) <= 8, sent


def test_a_larger_server_gets_more() -> None:
    sent = spread([pod("large", capacity=64), pod("small", capacity=16)], 60)
    assert 40 <= sent["large"] <= 54, sent


def test_the_nearer_of_two_alike_is_taken_until_it_has_more_to_do() -> None:
    pods = [pod("near", round_trip_ms=5), pod("far", round_trip_ms=90)]
    assert spread(pods, 3) == {"near": 3, "far": 0}
    sent = spread(pods, 40)
    assert sent["near"] > sent["far"] >= 15, sent


def test_a_busy_server_is_passed_over() -> None:
    assert spread([pod("busy", active=30, round_trip_ms=1), pod("idle", round_trip_ms=99)], 20)["busy"] == 0


@pytest.mark.parametrize(
    "better",
    [
        [pod("good"), pod("fails", usable=False)],
        [pod("good"), pod("full", active=32)],
        [pod("good"), Pod("unknown", True)],
        [pod("good", active=31), Pod("unknown", True)],
        [Pod("good", True), pod("fails", usable=False)],
        [pod("good", active=32), pod("fails", usable=False)],
        [pod("good"), Pod("degraded", True, PodReport("degraded", capacity=32), 1.0)],
    ],
)
def test_the_better_of_two_is_always_taken(better: list[Pod]) -> None:
    for seed in range(20):
        chosen = pick(better, random.Random(seed).random)
        assert chosen is not None and chosen.url == "good"


def test_when_none_works_one_is_tried_all_the_same() -> None:
    assert pick([pod("fails", usable=False)], random.random) is not None
    assert pick([], random.random) is None


@pytest.mark.parametrize(
    ("report", "full"),
    [
        (PodReport(active=4, capacity=4, waiting=8, max_waiting=8), True),
        (PodReport(active=4, capacity=4, waiting=7, max_waiting=8), False),
        (PodReport(active=3, capacity=4, waiting=8, max_waiting=8), False),
        (PodReport(), False),
    ],
)
def test_full(report: PodReport, full: bool) -> None:
    assert report.full is full


REPORTS = st.none() | st.builds(
    PodReport,
    state=st.sampled_from(["healthy", "degraded"]),
    active=st.integers(0, 100),
    capacity=st.none() | st.integers(0, 64),
    waiting=st.integers(0, 100),
)
PODS = st.lists(
    st.builds(Pod, st.uuids().map(str), st.booleans(), REPORTS, st.floats(0, 1e6), st.floats(0, 1e6)),
    min_size=1,
    max_size=8,
)


@given(PODS, st.randoms(use_true_random=False))
def test_what_is_taken_is_of_the_best_rank(pods: list[Pod], chance: random.Random) -> None:
    chosen = pick(pods, chance.random)
    assert chosen in pods and chosen.rank == min(pod.rank for pod in pods)

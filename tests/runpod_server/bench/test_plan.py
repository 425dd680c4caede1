"""Options as they are written, and the sentences for those that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from runpod_server.bench.plan import Plan, loads_of, size_of, streams_of, weights_of
from runpod_server.errors import BenchError


@pytest.mark.parametrize(
    "text, counts", [("1,2,4", (1, 2, 4)), ("16", (16,)), (" 4, 1,4,", (1, 4)), ("1024", (1024,))]
)
def test_numbers_of_streams(text: str, counts: tuple[int, ...]) -> None:
    assert streams_of(text) == counts


@pytest.mark.parametrize("text", ["", "0", "1,x", "-1", "1.5", "1025", "١", ","])
def test_no_numbers_of_streams(text: str) -> None:
    with pytest.raises(BenchError, match="1,2,4,8,16"):
        streams_of(text)


def test_loads_in_the_order_they_are_run() -> None:
    assert loads_of("all") == ("flat-out", "steady", "poisson")
    assert loads_of("poisson, flat-out") == ("flat-out", "poisson")
    for text in ("", "poison", "steady,never"):
        with pytest.raises(BenchError, match="flat-out, steady, poisson"):
            loads_of(text)


def test_sizes_and_weights() -> None:
    assert (size_of("middle"), weights_of("real")) == ("middle", "real")
    with pytest.raises(BenchError, match="1b, middle, tiny"):
        size_of("2b")
    with pytest.raises(BenchError, match="random, or real"):
        weights_of("mine")


@pytest.mark.parametrize(
    "option, fields",
    [
        ("--seconds", {"seconds": 0.0}),
        ("--seconds", {"seconds": float("nan")}),
        ("--utterance-seconds", {"utterance_s": 61.0}),
        ("--voice-seconds", {"voice_s": 2.0}),
        ("--first-audio-ms", {"first_audio_ms": -1.0}),
        ("--find-largest", {"find_largest": True, "loads": ("poisson",)}),
    ],
)
def test_what_cannot_be_measured(option: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=option):
        Plan(**fields)


def test_a_voice_may_be_left_out() -> None:
    assert Plan(voice_s=0.0).utterance_ms == 4000

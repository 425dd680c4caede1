"""The sampler against transformers' own logits processors, and its numbers against chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper

from runpod_server.model.sampling import (
    MAX_TOP_K,
    Sampling,
    SamplingRows,
    choose_by_draw,
    uniform_draws,
)

VOCAB = 2051
CPU = torch.device("cpu")


def rows_of(*settings: Sampling, codes: int = VOCAB) -> SamplingRows:
    rows = SamplingRows(len(settings), CPU, codes)
    for row, sampling in enumerate(settings):
        rows.set(row, sampling)
    return rows


def transformers_chances(logits: torch.Tensor, sampling: Sampling) -> np.ndarray:
    """The distribution transformers' generate would draw from: logits (1, V) → (V,)."""
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    return torch.softmax(scores.double(), -1)[0].numpy()


@pytest.mark.parametrize("temperature", [0.3, 0.9, 1.7])
@pytest.mark.parametrize("top_k", [0, 2, 50, MAX_TOP_K])
def test_many_draws_follow_transformers_distribution(temperature: float, top_k: int) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k)
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    chances = transformers_chances(logits, sampling)
    count, streams, frames = np.zeros(VOCAB), 256, 5
    rows = rows_of(*(Sampling(temperature, top_k, seed) for seed in range(streams)))
    for frame in range(frames):
        draws = rows.draws(torch.full((streams,), frame), 16)
        for codebook in range(16):
            codes = rows.choose(logits.expand(streams, -1), draws[:, codebook : codebook + 1])
            count += np.bincount(codes.numpy(), minlength=VOCAB)
    assert not count[chances == 0].any()
    expected = chances * count.sum()
    common = expected >= 8  # the rest as one class: chi-square wants no small ones
    observed = np.append(count[common], count[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    keep = expected > 0
    assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3


def test_greedy_is_argmax_and_the_first_of_equals() -> None:
    logits = torch.randn(3, VOCAB)
    logits[2, [7, 19, 1500]] = 50.0
    rows = rows_of(*[Sampling(temperature=0, seed=seed) for seed in range(3)])
    for frame in range(5):
        draw = rows.draws(torch.full((3,), frame), 1)
        codes = rows.choose(logits, draw)
        assert torch.equal(codes, logits.argmax(-1))
    assert codes[2] == 7


def test_logits_of_16_bits_are_chosen_from_as_if_they_were_float32() -> None:
    settings_ = [Sampling(0), Sampling(0.9, 50, 1), Sampling(0.4, 0, 2)]
    logits = torch.randn(3, VOCAB).bfloat16() * 3
    rows = rows_of(*settings_)
    for frame in range(20):
        draw = rows.draws(torch.full((3,), frame), 1)
        assert torch.equal(rows.choose(logits, draw), rows.choose(logits.float(), draw))


def test_codes_tied_with_the_kth_stay_as_in_transformers() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0]])
    expected = transformers_chances(logits, Sampling(1.0, 2))
    rows = rows_of(*[Sampling(1.0, 2, seed) for seed in range(4000)], codes=6)
    codes = rows.choose(logits.expand(4000, -1), rows.draws(torch.zeros(4000, dtype=torch.int64), 1))
    count = np.bincount(codes.numpy(), minlength=6)
    assert not count[[0, 5]].any()
    assert stats.chisquare(count[1:5], expected[1:5] * 4000).pvalue > 1e-3


def test_a_row_chooses_the_same_alone_and_among_others() -> None:
    settings_ = [Sampling(0, 50, 1), Sampling(0.9, 50, 2), Sampling(1.5, 0, 3), Sampling(0.5, 3, 4)]
    logits = torch.randn(4, VOCAB)
    together = rows_of(*settings_)
    frames = torch.tensor([3, 0, 9, 1])
    draws = together.draws(frames, 32)
    codes = together.choose(logits, draws[:, 5:6])
    for row, sampling in enumerate(settings_):
        alone = rows_of(sampling)
        draw = alone.draws(frames[row : row + 1], 32)
        assert torch.equal(draw[0], draws[row])
        assert alone.choose(logits[row : row + 1], draw[:, 5:6]) == codes[row]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=40),
    draw=st.floats(2.0**-24, 1 - 2.0**-24, width=32),
    temperature=st.floats(0.01, 20),
    top_k=st.integers(0, 40),
)
def test_no_draw_chooses_what_is_not_allowed(
    values: list[float], draw: float, temperature: float, top_k: int
) -> None:
    logits = torch.tensor([values])
    rows = rows_of(Sampling(temperature, top_k), codes=len(values))
    code = rows.choose(logits, torch.tensor([[draw]])).item()
    ranked = sorted(values, reverse=True)
    assert values[int(code)] >= (ranked[min(top_k, len(values)) - 1] if top_k else min(values))


def test_a_cumulative_sum_that_does_not_rise_evenly_chooses_something_possible() -> None:
    """On a GPU the last sums may come out below the total: here every one does, by a draw above 1."""
    logits = torch.tensor([[0.0, 2.0, 1.0, -5.0]])
    none = torch.tensor([[float("-inf")]])
    assert choose_by_draw(logits, none, torch.tensor([[1.001]])) == 1


def test_draws_are_uniform_and_unrelated_between_frames_codebooks_and_neighbouring_seeds() -> None:
    seeds = torch.arange(200).unsqueeze(1)
    draws = torch.stack([uniform_draws(seeds, torch.full((200,), frame), 32) for frame in range(20)])
    assert draws.min() > 0 and draws.max() < 1
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > 1e-3
    views = {
        "seed": (draws[:, :-1], draws[:, 1:]),
        "frame": (draws[:-1], draws[1:]),
        "codebook": (draws[..., :-1], draws[..., 1:]),
        "last of a frame, first of the next": (draws[:-1, :, -1], draws[1:, :, 0]),
    }
    for name, (one, other) in views.items():
        found = stats.pearsonr(one.flatten().numpy(), other.flatten().numpy())
        assert found.pvalue > 1e-3, name
    assert draws.unique().numel() > 0.98 * draws.numel()


def test_draws_are_splitmix64_of_seed_frame_and_codebook() -> None:
    """Against the definition in plain integers, so that no device or version of torch may change a voice."""

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for seed, frame, codebook in itertools.product((0, 1, 2**63 - 1), (0, 511), (0, 31)):
        hashed = mix((mix(seed) + (frame * 32 + codebook + 1) * 0x9E3779B97F4A7C15) % 2**64)
        drawn = uniform_draws(torch.tensor([[seed]]), torch.tensor([frame]), 32)[0, codebook].item()
        assert drawn == ((hashed >> 41) + 0.5) / 2**23


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_k", MAX_TOP_K + 1),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        Sampling(**{field: value})  # type: ignore[arg-type]

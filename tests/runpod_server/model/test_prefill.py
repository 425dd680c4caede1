"""Prompts read in padded pieces beside prompts read whole; transformers as the oracle is in test_csm.py."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from runpod_server.model.csm import CsmRunner
from runpod_server.model.prefill import PIECE_LENGTHS, PaddedPrefill, _shapes
from runpod_server.model.sampling import Sampling
from runpod_server.model.weights import LoadedCsm

SLOTS = 3
POSITIONS = 150  # two windows, of 128 and 150
LENGTHS = [(1, 7), (4, 16), (24,), (8, 64, 200)]


def padded(runner: CsmRunner) -> PaddedPrefill:
    assert runner._padded is not None
    return runner._padded


@pytest.fixture(scope="module")
def whole(tiny: LoadedCsm) -> CsmRunner:
    return CsmRunner(tiny.model, slots=SLOTS, max_positions=POSITIONS)


@pytest.fixture(scope="module")
def in_pieces(tiny: LoadedCsm) -> dict[tuple[int, ...], CsmRunner]:
    return {
        lengths: CsmRunner(tiny.model, slots=SLOTS, max_positions=POSITIONS, piece_lengths=lengths)
        for lengths in LENGTHS
    }


class Checked:
    """Two runners that do the same; where one reads in pieces, what it must not touch is looked at."""

    def __init__(self, whole: CsmRunner, pieces: CsmRunner) -> None:
        self.both = (whole, pieces)
        self.pieces = pieces
        for runner in self.both:
            for slot in range(SLOTS):
                runner.reset(slot)
                runner.begin(slot, Sampling(0))

    def prefill(self, slot: int, embeds: Tensor) -> None:
        runner = self.pieces
        row, start = runner._rows.row(slot), runner._length[slot]
        padded(runner)._input.fill_(float("nan"))  # were padding read by anyone, all would be none
        before = runner._cache.data.clone()
        for each in self.both:
            each.prefill(slot, embeds)
        changed = _bits(runner._cache.data) != _bits(before)  # (layers, 2, rows, heads, positions, dim)
        changed = changed.any(dim=-1).any(dim=3).any(dim=1).any(dim=0)  # (rows, positions)
        allowed = torch.zeros_like(changed)
        allowed[row, start : runner._length[slot]] = True
        allowed[row, POSITIONS] = True
        assert not (changed & ~allowed).any()

    def step(self, slots: list[int]) -> None:
        ours, theirs = (runner.step(slots) for runner in self.both)
        assert torch.equal(ours.codes, theirs.codes)

    def compare(self) -> None:
        for slot in range(SLOTS):
            assert len({runner.positions(slot) for runner in self.both}) == 1
            if self.pieces.positions(slot):
                ours, theirs = (runner.save_prefix(slot) for runner in self.both)
                torch.testing.assert_close(ours.kv, theirs.kv, atol=2e-5, rtol=1e-4)
                torch.testing.assert_close(ours.pending, theirs.pending, atol=2e-5, rtol=1e-4)


def _bits(numbers: Tensor) -> Tensor:
    """Comparable even where they are none."""
    return numbers.view(torch.int32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_pieces_leave_in_the_cache_what_the_whole_prompt_leaves_and_touch_nothing_else(
    data: st.DataObject, whole: CsmRunner, in_pieces: dict[tuple[int, ...], CsmRunner]
) -> None:
    runner = in_pieces[data.draw(st.sampled_from(LENGTHS), label="lengths")]
    checked = Checked(whole, runner)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), label="seed"))
    for _ in range(data.draw(st.integers(1, 6), label="turns")):
        slot = data.draw(st.integers(0, SLOTS - 1), label="slot")
        count = data.draw(st.one_of(st.integers(0, 12), st.integers(0, POSITIONS)), label="count")
        prompt = torch.randn(
            min(count, max(runner.room(slot), 0)), runner.shapes.backbone.hidden, generator=generator
        )
        if prompt.shape[0]:
            checked.prefill(slot, prompt)
        able = [slot for slot in range(SLOTS) if runner.frames_left(slot)]
        if able:
            checked.step(data.draw(st.lists(st.sampled_from(able), min_size=1, unique=True), label="steps"))
    checked.compare()


def test_a_row_is_read_to_its_brim(whole: CsmRunner, in_pieces: dict[tuple[int, ...], CsmRunner]) -> None:
    """There a piece's padding would reach past the row's end, into the next head's first positions."""
    prompt = torch.randn(POSITIONS, whole.shapes.backbone.hidden, generator=torch.Generator().manual_seed(1))
    for runner in in_pieces.values():
        checked = Checked(whole, runner)
        for slot, cut in enumerate((POSITIONS, 1, POSITIONS - 2)):
            checked.prefill(slot, prompt[:cut])
            checked.prefill(slot, prompt[cut:])
            assert runner.room(slot) == 0
        checked.compare()
        checked.step([2, 0, 1])


def test_a_piece_works_on_static_buffers_and_looks_at_no_value(tiny: LoadedCsm) -> None:
    """What a CUDA graph needs. Capturing runs every shape: with no token to read it changes no position."""
    runner = CsmRunner(tiny.model, slots=2, piece_lengths=(4, 16, 64), pack_weights=False)
    reading = padded(runner)
    buffers = {name: value.data_ptr() for name, value in vars(reading).items() if isinstance(value, Tensor)}
    for count in (3, 100, 30):
        runner.prefill(1, torch.randn(count, runner.shapes.backbone.hidden))
    assert len(buffers) == 3
    assert buffers == {name: vars(reading)[name].data_ptr() for name in buffers}
    before, piece = runner._cache.data.clone(), reading._input.clone()
    reading._set_place(0, 0, 0)
    with torch.inference_mode():
        for length, window in reading.shapes:
            reading._piece(length, window)
        with FakeTensorMode(allow_non_fake_inputs=True):
            reading._piece(64, 128)  # would raise where a value is looked at
    assert torch.equal(runner._cache.data[..., :-1, :], before[..., :-1, :])
    assert torch.equal(reading._input, piece)  # else what pads a piece would grow from one to the next


def test_every_piece_there_may_be_has_a_shape_and_no_shape_is_for_nobody(tiny: LoadedCsm) -> None:
    shapes = _shapes(PIECE_LENGTHS, 2048)
    assert len(shapes) == 11  # CSM-1B: so many graphs more at the start
    runner = CsmRunner(tiny.model, slots=1, piece_lengths=(4, 64, 144, 300))
    reading = padded(runner)
    chosen = {
        reading._shape(count, end)
        for end in range(1, runner.max_positions + 1)
        for count in range(1, min(end, 160) + 1)
    }
    assert chosen == set(reading.shapes) and (144, 128) in chosen and (160, 128) not in chosen


def test_on_a_cpu_prompts_are_read_whole_unless_asked_for(tiny: LoadedCsm) -> None:
    assert CsmRunner(tiny.model, slots=1)._padded is None

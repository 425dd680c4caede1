"""The runner against transformers' own generate: every stream the same codes, whatever goes on around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from runpod_server.model.csm import CsmRunner
from runpod_server.model.prompt import Prompt, Turn, build_prompt, encode_recording
from runpod_server.model.sampling import Sampling
from runpod_server.model.weights import LoadedCsm, random_csm

GREEDY = Sampling(temperature=0)
FRAMES = 18
SLOTS = 5  # buckets 1, 2, 4 and 5
TEXT_LENGTHS = (1, 2, 60, 30)  # the third outgrows the first window, of 64 positions


@dataclass(frozen=True)
class Stream:
    """A prompt and what transformers makes of it, greedily."""

    embeds: Tensor  # (n, hidden)
    codes: Tensor  # (FRAMES, codebooks)


def oracle(csm: LoadedCsm, ids: Tensor, frames: int, **kwargs: Any) -> Tensor:
    """transformers' greedy codes: ids (B, n) → (B, frames, codebooks)."""
    codes: Tensor = csm.model.generate(ids, max_new_tokens=frames, do_sample=False, **kwargs)
    return codes


def text_prompt(csm: LoadedCsm, ids: Tensor) -> Prompt:
    return Prompt(ids, torch.empty(0, csm.shapes.codebooks, dtype=torch.int64))


def steps(runner: CsmRunner, slots: list[int], frames: int) -> Tensor:
    """(len(slots), frames, codebooks)"""
    return torch.stack([runner.step(slots).codes for _ in range(frames)], dim=1)


@pytest.fixture(scope="module", params=[(), (4, 16, 64)], ids=["prompts whole", "prompts in padded pieces"])
def runner(tiny: LoadedCsm, request: pytest.FixtureRequest) -> CsmRunner:
    return CsmRunner(tiny.model, slots=SLOTS, piece_lengths=request.param)


@pytest.fixture(scope="module")
def streams(tiny: LoadedCsm) -> list[Stream]:
    torch.manual_seed(3)
    runner = CsmRunner(tiny.model, slots=1)
    found = []
    for length in TEXT_LENGTHS:
        ids = torch.randint(0, 256, (3, length))
        for row, codes in zip(ids, oracle(tiny, ids, FRAMES), strict=True):
            found.append(Stream(runner.embed(text_prompt(tiny, row)), codes))
    return found


def test_the_oracle_has_something_to_say(streams: list[Stream]) -> None:
    """Were all streams alike, or stuck on one code, the tests below would prove nothing."""
    assert len({tuple(stream.codes.flatten().tolist()) for stream in streams}) == len(streams)
    for stream in streams:
        assert stream.codes.unique(dim=0).shape[0] > FRAMES // 2


class Neighbours(RuleBasedStateMachine):
    """Streams come, pause, are cancelled and end in any order; each must say what it would say alone."""

    runner: CsmRunner
    streams: list[Stream]

    @initialize()
    def start(self) -> None:
        self.live: dict[int, tuple[Stream, int]] = {}  # slot → stream, frames made
        for slot in range(SLOTS):
            self.runner.reset(slot)  # what earlier runs left stays in memory, as in a server

    def free(self) -> list[int]:
        return [slot for slot in range(SLOTS) if slot not in self.live]

    @precondition(lambda self: self.free())
    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.free()), label="slot")
        stream = data.draw(st.sampled_from(self.streams), label="stream")
        cut = data.draw(st.integers(0, stream.embeds.shape[0]), label="prefilled in two at")
        self.runner.reset(slot)
        self.runner.begin(slot, GREEDY)
        self.runner.prefill(slot, stream.embeds[:cut])
        self.runner.prefill(slot, stream.embeds[cut:])
        self.live[slot] = (stream, 0)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        slots = data.draw(
            st.lists(st.sampled_from(sorted(self.live)), min_size=1, unique=True), label="slots"
        )
        frame = self.runner.step(slots)
        assert frame.codes.shape[0] == len(slots)
        for slot, codes, is_eos in zip(slots, frame.codes, frame.is_eos, strict=True):
            stream, made = self.live[slot]
            assert torch.equal(codes, stream.codes[made])
            assert not is_eos
            self.live[slot] = (stream, made + 1)
            if made + 1 == FRAMES:
                del self.live[slot]

    @rule()
    def step_all_twice(self) -> None:
        for _ in range(2):
            if slots := sorted(self.live, reverse=True):
                frame = self.runner.step(slots)
                for slot, codes in zip(slots, frame.codes, strict=True):
                    stream, made = self.live[slot]
                    assert torch.equal(codes, stream.codes[made])
                    self.live[slot] = (stream, made + 1)
                self.live = {slot: (one, made) for slot, (one, made) in self.live.items() if made < FRAMES}

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.live)), label="cancelled")
        self.runner.reset(slot)
        del self.live[slot]

    @precondition(lambda self: self.live and self.free())
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.live)), label="copied from")
        copy = data.draw(st.sampled_from(self.free()), label="to")
        self.runner.copy_prefix(self.runner.save_prefix(slot), copy)
        self.runner.begin(copy, GREEDY)
        self.live[copy] = self.live[slot]


def test_greedy_codes_are_transformers_whatever_the_neighbours_do(
    runner: CsmRunner, streams: list[Stream]
) -> None:
    Neighbours.runner, Neighbours.streams = runner, streams
    run_state_machine_as_test(
        Neighbours,
        settings=settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True),
    )


def test_every_bucket_gives_the_same_codes(tiny: LoadedCsm, runner: CsmRunner, streams: list[Stream]) -> None:
    for count in range(1, SLOTS + 1):
        chosen = streams[-count:]
        for slot, stream in enumerate(chosen):
            runner.reset(slot)
            runner.begin(slot, GREEDY)
            runner.prefill(slot, stream.embeds)
        codes = steps(runner, list(range(count)), 6)
        assert torch.equal(codes, torch.stack([stream.codes[:6] for stream in chosen]))


def test_plain_and_packed_weights_give_the_same_codes(tiny: LoadedCsm, streams: list[Stream]) -> None:
    for pack in (False, True):
        runner = CsmRunner(tiny.model, slots=len(streams), pack_weights=pack)
        for slot, stream in enumerate(streams):
            runner.begin(slot, GREEDY)
            runner.prefill(slot, stream.embeds)
        codes = steps(runner, list(range(len(streams))), FRAMES)
        assert torch.equal(codes, torch.stack([stream.codes for stream in streams]))


def voice_turn(csm: LoadedCsm, samples: Tensor) -> Turn:
    return Turn(3, "A voice to copy.", encode_recording(csm.model.codec_model, samples))


@pytest.fixture(scope="module")
def recording() -> Tensor:
    """Twelve and a half frames of 48 samples."""
    return torch.randn(600, generator=torch.Generator().manual_seed(5)) * 0.3


def test_a_recording_as_context_gives_what_transformers_gives_with_input_values(
    tiny: LoadedCsm, runner: CsmRunner, recording: Tensor
) -> None:
    turns = [voice_turn(tiny, recording), Turn(3, "Say this.")]
    prompt = build_prompt(turns, tiny.tokenizer, tiny.shapes)
    assert prompt.codes.unique().numel() > 10
    expected = oracle(
        tiny,
        prompt.ids.unsqueeze(0),
        12,
        attention_mask=torch.ones(1, prompt.positions),  # without it, generate takes audio for padding
        input_values=recording.view(1, 1, -1),
        input_values_cutoffs=torch.tensor([[recording.shape[0]]]),
    )[0]
    runner.reset(0)
    runner.begin(0, GREEDY)
    runner.prefill(0, runner.embed(prompt))
    assert torch.equal(steps(runner, [0], 12)[0], expected)


def test_a_copied_voice_prefix_is_the_prefill_of_the_whole(
    tiny: LoadedCsm, runner: CsmRunner, recording: Tensor
) -> None:
    def embeds(turns: list[Turn]) -> Tensor:
        return runner.embed(build_prompt(turns, tiny.tokenizer, tiny.shapes))

    voice, text = voice_turn(tiny, recording), Turn(3, "Say that, please.")
    for slot in range(4):
        runner.reset(slot)
        runner.begin(slot, GREEDY)
    runner.prefill(0, embeds([voice, text]))
    whole = runner.save_prefix(0)
    runner.prefill(1, embeds([voice]))
    prefix = runner.save_prefix(1)
    for slot in (2, 3):
        runner.copy_prefix(prefix, slot)
        assert runner.positions(slot) == prefix.positions
        runner.prefill(slot, embeds([text]))
        pieced = runner.save_prefix(slot)
        torch.testing.assert_close(pieced.kv, whole.kv, atol=1e-5, rtol=1e-5)
        assert torch.equal(pieced.pending, whole.pending)
    codes = steps(runner, [0, 2, 3], 10)
    assert torch.equal(codes[0], codes[1]) and torch.equal(codes[0], codes[2])


def test_a_slot_goes_on_after_an_utterance_as_if_it_had_been_given_as_context(
    tiny: LoadedCsm, runner: CsmRunner
) -> None:
    shapes, tokenizer = tiny.shapes, tiny.tokenizer
    first, second = Turn(1, "How are you?"), Turn(0, "Well. And you?")
    for slot in (0, 1):
        runner.reset(slot)
        runner.begin(slot, GREEDY)
    runner.prefill(0, runner.embed(build_prompt([first], tokenizer, shapes)))
    said = steps(runner, [0], 7)[0]
    end = Prompt(torch.tensor([shapes.audio_eos_id]), torch.empty(0, shapes.codebooks, dtype=torch.int64))
    runner.prefill(0, runner.embed(end))
    runner.prefill(0, runner.embed(build_prompt([second], tokenizer, shapes)))
    whole = build_prompt([Turn(1, first.text, said), second], tokenizer, shapes)
    runner.prefill(1, runner.embed(whole))
    assert runner.positions(0) == runner.positions(1) == whole.positions
    codes = steps(runner, [0, 1], 8)
    assert torch.equal(codes[0], codes[1])


def test_sampled_codes_depend_on_the_seed_alone(runner: CsmRunner, streams: list[Stream]) -> None:
    settings_ = [
        Sampling(0.9, 50, seed=7),
        Sampling(0.9, 50, seed=8),
        Sampling(1.2, 0, seed=7),
        Sampling(0, 50, seed=7),
    ]
    alone = []
    for sampling in settings_:
        runner.reset(1)
        runner.begin(1, sampling)
        runner.prefill(1, streams[-1].embeds)
        alone.append(steps(runner, [1], 8)[0])
    for slot, sampling in zip((4, 2, 0, 3), settings_, strict=True):
        runner.reset(slot)
        runner.begin(slot, sampling)
        runner.prefill(slot, streams[-1].embeds)
    together: dict[int, list[Tensor]] = {0: [], 2: [], 3: [], 4: []}
    schedule = [[4, 2], [4], [4, 2, 0, 3], [3], [0, 2], [4, 2, 0], [3, 0, 2]] + [[4, 2, 0, 3]] * 5
    for slots in schedule:
        for slot, codes in zip(slots, runner.step(slots).codes, strict=True):
            together[slot].append(codes)
    for slot, codes in zip((4, 2, 0, 3), alone, strict=True):
        made = torch.stack(together[slot])[:8]
        assert torch.equal(made, codes[: made.shape[0]])
    assert torch.equal(alone[3], streams[-1].codes[:8])
    assert not torch.equal(alone[0], alone[1]) and not torch.equal(alone[0], alone[2])


def test_frames_sampled_whole_are_distributed_as_transformers(tiny: LoadedCsm, streams: list[Stream]) -> None:
    """Codebook by codebook, over many first frames: each depends on all the codes before it."""
    ids = torch.arange(40, 60).unsqueeze(0)
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 5}
    depth = {f"depth_decoder_{name}": value for name, value in sampling.items()}
    before = tiny.model.depth_decoder.generation_config.to_dict()
    torch.manual_seed(1)
    theirs = torch.cat(
        [
            tiny.model.generate(ids.repeat(800, 1), max_new_tokens=1, **sampling, **depth)[:, 0]
            for _ in range(5)
        ]
    )
    tiny.model.depth_decoder.generation_config.update(**before)  # generate keeps what it was given
    many = CsmRunner(tiny.model, slots=400)
    many.prefill(0, many.embed(text_prompt(tiny, ids[0])))
    prefix, ours = many.save_prefix(0), []
    for slot in range(400):
        many.copy_prefix(prefix, slot)
    for turn in range(10):
        for slot in range(400):
            many.begin(slot, Sampling(0.8, 5, seed=turn * 400 + slot))
            many.copy_prefix(prefix, slot)
        ours.append(many.step(range(400)).codes)
    for codebook in range(tiny.shapes.codebooks):
        counts = np.stack(
            [np.bincount(codes[:, codebook], minlength=64) for codes in (theirs, torch.cat(ours))]
        )
        common = counts.sum(0) >= 10
        table = np.column_stack([counts[:, common], counts[:, ~common].sum(1)])
        table = table[:, table.sum(0) > 0]
        assert stats.chi2_contingency(table).pvalue > 1e-4, f"codebook {codebook}"


def silent_csm(make_config: Callable[..., Any], codebooks: int = 32) -> LoadedCsm:
    """A model all of whose codes are equally likely, so that greedy, the first of them, means code 0."""
    csm = random_csm(make_config(codebooks=codebooks), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        csm.model.lm_head.weight.zero_()
        csm.model.depth_decoder.codebooks_head.weight.zero_()
    return csm


def test_the_end_is_a_frame_of_32_end_codes(make_config: Callable[..., Any]) -> None:
    csm = silent_csm(make_config)
    runner = CsmRunner(csm.model, slots=3)
    for slot, sampling in enumerate([GREEDY, Sampling(1.0, 0), GREEDY]):
        runner.begin(slot, sampling)
        runner.prefill(slot, runner.embed(text_prompt(csm, torch.tensor([1, 2, 3]))))
    frame = runner.step([0, 1, 2])
    assert frame.codes.shape == (3, 32)
    assert frame.is_eos.tolist() == [True, False, True]
    assert not frame.codes[0].any() and frame.codes[1].any()


def test_31_end_codes_are_not_the_end(make_config: Callable[..., Any]) -> None:
    """transformers' loop looks at codebooks 0 to 30 alone and stops here; the frame is sound."""
    csm = silent_csm(make_config)
    head = csm.model.depth_decoder.codebooks_head.weight
    with torch.no_grad():
        head[-1] = torch.randn(head[-1].shape, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[1, 2, 3]])
    stopped = oracle(csm, ids, 4)
    runner = CsmRunner(csm.model, slots=1)
    runner.begin(0, GREEDY)
    runner.prefill(0, runner.embed(text_prompt(csm, ids[0])))
    frame = runner.step([0])
    assert stopped.shape[1] == 1 and torch.equal(frame.codes, stopped[:, 0])
    assert frame.codes[0, 31] != 0 and not frame.codes[0, :31].any()
    assert not frame.is_eos[0]


def test_a_stream_may_use_every_position_and_no_more(tiny: LoadedCsm, streams: list[Stream]) -> None:
    small = CsmRunner(tiny.model, slots=2, max_positions=37)
    stream = streams[-1]  # 30 positions of text
    for slot in (0, 1):
        small.begin(slot, GREEDY)
        small.prefill(slot, stream.embeds)
    assert (small.room(0), small.frames_left(0)) == (7, 8)
    small.step([1])
    assert torch.equal(steps(small, [0], 8)[0], stream.codes[:8])
    assert small.frames_left(0) == 0
    with pytest.raises(ValueError, match="slot 0 is at the limit of 37 positions"):
        small.step([0, 1])
    assert torch.equal(steps(small, [1], 7)[0], stream.codes[1:8])  # the full one rode along unharmed


def test_what_does_not_fit_or_cannot_go_on_is_refused_in_a_sentence(
    tiny: LoadedCsm, streams: list[Stream]
) -> None:
    small = CsmRunner(tiny.model, slots=2, max_positions=37)
    with pytest.raises(ValueError, match="30 positions does not fit into slot 1: of its 37 7 are left"):
        for _ in range(2):
            small.prefill(1, streams[-1].embeds)
    with pytest.raises(ValueError, match="slot 0 has no prompt"):
        small.step([1, 0])
    with pytest.raises(ValueError, match="each once"):
        small.step([1, 1])
    with pytest.raises(ValueError, match="one or more"):
        small.step([])
    with pytest.raises(ValueError, match="slot 0 holds nothing"):
        small.save_prefix(0)
    with pytest.raises(ValueError, match="at least one slot"):
        CsmRunner(tiny.model, slots=0)


def test_transformers_own_modules_share_the_fused_weights_and_go_on_working(tiny_folder: Any) -> None:
    from runpod_server.model.weights import load_csm

    csm = load_csm(tiny_folder, device="cpu", dtype=torch.float32)
    ids = torch.tensor([[9, 8, 7]])
    before = oracle(csm, ids, 3)
    first, second = (CsmRunner(csm.model, slots=1, pack_weights=False) for _ in range(2))
    assert torch.equal(oracle(csm, ids, 3), before)
    layer = csm.model.backbone_model.layers[0]
    storages = {
        weight.untyped_storage().data_ptr()
        for weight in (layer.self_attn.q_proj.weight, layer.self_attn.v_proj.weight)
    }
    assert len(storages) == 1
    with torch.no_grad():
        layer.self_attn.k_proj.weight.zero_()  # seen by all three, since nobody has a copy
    for runner in (first, second):
        runner.begin(0, GREEDY)
        runner.prefill(0, runner.embed(text_prompt(csm, ids[0])))
        assert torch.equal(steps(runner, [0], 3)[0], oracle(csm, ids, 3)[0])


def tensors_of(thing: Any) -> dict[str, Tensor]:
    """Every tensor an object of this package keeps, its parts' too."""
    found: dict[str, Tensor] = {}
    for name, value in vars(thing).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif type(value).__module__.startswith("runpod_server.model") and hasattr(value, "__dict__"):
            found |= {f"{name}.{inner}": tensor for inner, tensor in tensors_of(value).items()}
    return found


def test_a_frame_works_on_static_buffers_alone(tiny: LoadedCsm, streams: list[Stream]) -> None:
    """What a CUDA graph needs: the same addresses at every step, and no value read back to the host."""
    runner = CsmRunner(tiny.model, slots=4, pack_weights=False)  # packing is for CPUs
    per_step = {"_stepped_rows"}
    before = {name: tensor.data_ptr() for name, tensor in tensors_of(runner).items()}
    assert len(before) > 20
    for slot in range(4):
        runner.begin(slot, Sampling(seed=slot))
        runner.prefill(slot, streams[slot].embeds)
    for slots in ([0, 1, 2, 3], [3], [2, 3], [1, 0, 2]):
        runner.step(slots)
    after = {name: tensor.data_ptr() for name, tensor in tensors_of(runner).items()}
    assert {name for name in before if before[name] != after[name]} <= per_step
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        runner._think(4, 64)  # would raise where a value is looked at
        runner._say(4)


def test_a_frame_in_which_no_row_advances_changes_nothing_any_slot_holds(
    tiny: LoadedCsm, streams: list[Stream]
) -> None:
    """Capturing a graph runs the frame so, perhaps while streams are under way."""
    runner = CsmRunner(tiny.model, slots=3)
    for slot in range(3):
        runner.begin(slot, GREEDY)
        runner.prefill(slot, streams[-1 - slot].embeds)
    runner.step([0, 1, 2])
    runner.warm()
    with torch.inference_mode():
        runner._think(3, 64)
        runner._say(3)
    codes = steps(runner, [0, 1, 2], 5)
    assert torch.equal(codes, torch.stack([streams[-1 - slot].codes[1:6] for slot in range(3)]))


def test_bfloat16_follows_float32_at_first(tiny_folder: Any, streams: list[Stream]) -> None:
    from runpod_server.model.weights import load_csm

    csm = load_csm(tiny_folder, device="cpu", dtype=torch.bfloat16)
    runner = CsmRunner(csm.model, slots=len(streams))
    for slot, stream in enumerate(streams):
        runner.begin(slot, GREEDY)
        runner.prefill(slot, stream.embeds.bfloat16())
    codes = runner.step(range(len(streams))).codes
    expected = torch.stack([stream.codes[0] for stream in streams])
    assert (codes[:, 0] == expected[:, 0]).float().mean() > 0.7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_and_eager_give_the_same_codes(tiny_folder: Any, streams: list[Stream]) -> None:
    from runpod_server.model.weights import load_csm

    csm = load_csm(tiny_folder, device="cuda", dtype=torch.float32)
    made = []
    for use_graphs in (True, False):
        runner = CsmRunner(csm.model, slots=SLOTS, use_graphs=use_graphs)
        runner.warm()
        for slot in range(SLOTS):
            runner.begin(slot, GREEDY if slot % 2 else Sampling(seed=slot))
            runner.prefill(slot, streams[-1 - slot].embeds.cuda())
        plan = [list(range(count)) for count in (1, 2, 3, 4, 5, 5, 3, 1)] * 4
        assert runner._padded is not None
        assert len(runner._padded._pieces._graphs) == use_graphs * len(runner._padded.shapes)
        made.append([runner.step(slots).codes.cpu() for slots in plan])
    for graphed, eager in zip(*made, strict=True):
        assert torch.equal(graphed, eager)

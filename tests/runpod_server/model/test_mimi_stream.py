"""The stream against transformers' whole decode: any chunking, any neighbours, past the attention window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import MimiConfig, MimiModel
from transformers.models.mimi.modeling_mimi import MimiLayerScale

from runpod_server.errors import EngineUnavailable
from runpod_server.model import mimi_layers
from runpod_server.model.mimi_stream import FRAMES_PER_PASS, MimiStream

TOLERANCE = 1e-4
SLOTS = 5

TINY = {
    "hidden_size": 32,
    "num_filters": 4,
    "upsampling_ratios": [4, 3, 2],
    "num_residual_layers": 2,  # the second one is dilated
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 5,
    "num_semantic_quantizers": 1,
    "upsample_groups": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 9,  # four and a half frames: most streams here outlive it
    "sampling_rate": 600,
}


def random_codec(**changes: object) -> MimiModel:
    """Random weights, as loud as speech, by which every part is heard.

    transformers starts codebooks at zero, layer scales and attention near it, which would hide most mistakes.
    """
    torch.manual_seed(7)
    codec = MimiModel(MimiConfig(**changes)).eval()
    with torch.no_grad():
        for name, buffer in codec.named_buffers():
            if name.endswith("embed_sum"):
                buffer.normal_()
        for module in codec.modules():
            if isinstance(module, MimiLayerScale):
                module.scale.normal_(0.6, 0.2)
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5)
        if codec.decoder is not None and codec.config.pad_mode != "reflect":
            last = codec.decoder.decoder_seanet.layers[-1].conv
            peak = codec.decode(random_codes(codec, 8)).audio_values.abs().max()
            for parameter in last.parameters():
                parameter /= peak
    return codec


def loaded(codec: MimiModel, folder: Path) -> MimiModel:
    codec.save_pretrained(folder)
    return MimiModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> MimiModel:
    return loaded(random_codec(**TINY), tmp_path_factory.mktemp("mimi"))


def random_codes(codec: MimiModel, frames: int, *, seed: int = 0) -> Tensor:  # (1, K, frames)
    generator = torch.Generator().manual_seed(seed)
    shape = (1, codec.config.num_quantizers, frames)
    return torch.randint(codec.config.codebook_size, shape, generator=generator)


@torch.no_grad()
def whole(codec: MimiModel, codes: Tensor) -> Tensor:  # (1, K, T) → (samples,)
    return codec.decode(codes).audio_values[0, 0]


def streamed(stream: MimiStream, slot: int, codes: Tensor, chunks: list[int]) -> Tensor:
    assert sum(chunks) == codes.shape[2]
    return torch.cat([stream.decode([slot], piece)[0] for piece in codes.split(chunks, dim=2)])


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert theirs.abs().max() > 0.01  # silence would prove nothing
    assert (ours - theirs).abs().max().item() < TOLERANCE


def in_chunks(frames: int) -> st.SearchStrategy[list[int]]:
    cuts = st.sets(st.integers(1, frames - 1)).map(lambda at: [0, *sorted(at), frames])
    return cuts.map(lambda at: [b - a for a, b in zip(at, at[1:], strict=False)])


def test_the_tiny_codec_is_heard_in_every_part(codec: MimiModel) -> None:
    """The oracle would miss a part of the stream's state that does not reach the samples."""
    codes = random_codes(codec, 12)
    reference = whole(codec, codes)
    early = codes.clone()
    early[:, :, 0] = (early[:, :, 0] + 1) % codec.config.codebook_size
    change = (whole(codec, early) - reference).abs().view(12, -1).amax(1)
    assert (change[:5] > 100 * TOLERANCE).all()  # attention carries frame 0 on to its window's end
    for layer in codec.decoder.decoder_transformer.layers:
        scale = layer.self_attn_layer_scale.scale
        kept = scale.detach().clone()
        with torch.no_grad():
            scale.zero_()
            assert (whole(codec, codes) - reference).abs().max() > 100 * TOLERANCE
            scale.copy_(kept)


@pytest.mark.parametrize("use_graphs", [False, True], ids=["eager", "buckets"])
@settings(max_examples=25, deadline=None)
@given(chunks=in_chunks(frames=20), seed=st.integers(0, 2**32))
def test_any_chunking_gives_the_whole_decode(
    codec: MimiModel, use_graphs: bool, chunks: list[int], seed: int
) -> None:
    codes = random_codes(codec, 20, seed=seed)
    stream = MimiStream(codec, SLOTS, use_graphs=use_graphs)
    assert_same(streamed(stream, 3, codes, chunks), whole(codec, codes))


@dataclass
class Caller:
    """One stream's codes and what has been heard of it."""

    codes: Tensor  # (1, K, T)
    at: int = 0
    heard: list[Tensor] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.codes.shape[2] - self.at

    def take(self, frames: int) -> Tensor:
        self.at += frames
        return self.codes[:, :, self.at - frames : self.at]


@pytest.mark.parametrize("use_graphs", [False, True], ids=["eager", "buckets"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_streams_that_come_and_go_never_hear_each_other(
    codec: MimiModel, use_graphs: bool, data: st.DataObject
) -> None:
    stream = MimiStream(codec, SLOTS, use_graphs=use_graphs)
    live: dict[int, Caller] = {}
    finished: list[Caller] = []
    for moment in range(data.draw(st.integers(5, 25), label="moments")):
        for slot in data.draw(st.sets(st.integers(0, SLOTS - 1), max_size=2), label="join or leave"):
            if slot in live:  # hung up in the middle; the slot's next stream must not hear it
                finished.append(live.pop(slot))
            else:
                stream.reset(slot)
                live[slot] = Caller(random_codes(codec, 30, seed=100 * moment + slot))
        if not live:
            continue
        batch = data.draw(st.lists(st.sampled_from(sorted(live)), min_size=1, unique=True), label="batch")
        room = min(live[slot].left for slot in batch)
        if room == 0:
            continue
        frames = data.draw(st.integers(1, min(room, 6)), label="frames")
        pcm = stream.decode(batch, torch.cat([live[slot].take(frames) for slot in batch]))
        for slot, row in zip(batch, pcm, strict=True):
            live[slot].heard.append(row)
    for caller in [*finished, *live.values()]:
        if caller.at:
            assert_same(torch.cat(caller.heard), whole(codec, caller.codes[:, :, : caller.at]))


def test_a_stream_far_longer_than_the_window_and_the_ring(codec: MimiModel) -> None:
    frames = 15 * codec.config.sliding_window
    codes = random_codes(codec, frames)
    ones = MimiStream(codec, 1)
    threes = MimiStream(codec, 1)
    reference = whole(codec, codes)
    assert_same(streamed(ones, 0, codes, [1] * frames), reference)
    assert_same(streamed(threes, 0, codes, [3] * (frames // 3)), reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"pad_mode": "replicate"},
        {"use_conv_shortcut": True},
        {"num_key_value_heads": 4},
        {"sliding_window": 1},
        {"sliding_window": 24},
        {"kernel_size": 1, "last_kernel_size": 5, "residual_kernel_size": 2},
        {"dilation_growth_rate": 3, "num_residual_layers": 3},
        {
            "vector_quantization_hidden_dimension": 32,
            "codebook_dim": 32,
        },  # no projection out of the quantizer
        {"num_semantic_quantizers": 3},
        {"upsample_groups": 4},
        {"upsampling_ratios": [5, 2]},
        {"hidden_act": "relu", "attention_bias": True},
        {"frame_rate": 25 / 3},  # three tokens a frame
    ],
    ids=lambda changes: ",".join(changes),
)
def test_sizes_and_modes_come_from_the_config(changes: dict[str, object]) -> None:
    codec = random_codec(**{**TINY, **changes})
    codes = random_codes(codec, 16)
    stream = MimiStream(codec, 2)
    reference = whole(codec, codes)
    assert reference.shape == (16 * stream.samples_per_frame,)
    assert_same(streamed(stream, 1, codes, [1, 1, 1, 2, 4, 7]), reference)


@pytest.mark.parametrize("matmul", ["always", "never"])
def test_both_ways_of_convolving_agree(
    codec: MimiModel, monkeypatch: pytest.MonkeyPatch, matmul: str
) -> None:
    monkeypatch.setattr(mimi_layers, "weights_outweigh", lambda *_: matmul == "always")
    codes = random_codes(codec, 14)
    assert_same(streamed(MimiStream(codec, 1), 0, codes, [1] * 10 + [4]), whole(codec, codes))


def test_fewer_codebooks_than_the_codec_has(codec: MimiModel) -> None:
    for codebooks in range(1, codec.config.num_quantizers + 1):
        codes = random_codes(codec, 8)[:, :codebooks]
        stream = MimiStream(codec, 2, use_graphs=True)
        assert_same(streamed(stream, 0, codes, [1, 1, 6]), whole(codec, codes))


def test_a_code_beyond_the_codebook_is_the_nearest_in_it(codec: MimiModel) -> None:
    size = codec.config.codebook_size
    beyond, nearest = random_codes(codec, 6), random_codes(codec, 6)
    beyond[:, :, 2], nearest[:, :, 2] = size + 2, size - 1
    assert_same(streamed(MimiStream(codec, 1), 0, beyond, [6]), whole(codec, nearest))


def test_reset_heals_a_slot_that_went_wrong_and_only_that_one(codec: MimiModel) -> None:
    stream = MimiStream(codec, 2)
    ours, other = random_codes(codec, 10, seed=1), random_codes(codec, 10, seed=2)
    first = stream.decode([0, 1], torch.cat([ours, other])[:, :, :4])
    for state in (stream._rows, stream._transformer.ring.transpose(0, 1)):
        state[0] = float("nan")
    stream.reset(0)
    assert_same(streamed(stream, 0, ours, [3, 7]), whole(codec, ours))
    rest = stream.decode([1], other[:, :, 4:])[0]
    assert_same(torch.cat([first[1], rest]), whole(codec, other))


def test_a_pass_that_fails_can_be_tried_again(codec: MimiModel, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(codec, 12)
    stream = MimiStream(codec, 1)
    heard = [stream.decode([0], codes[:, :, :8])[0]]

    def out_of_memory(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(stream, "_seanet", [*stream._seanet[:-1], out_of_memory])
        with pytest.raises(torch.OutOfMemoryError):
            stream.decode([0], codes[:, :, 8:12])
    heard += [stream.decode([0], codes[:, :, 8:10])[0], stream.decode([0], codes[:, :, 10:])[0]]
    assert_same(torch.cat(heard), whole(codec, codes))


def test_state_stays_where_it_is_and_does_not_grow(codec: MimiModel) -> None:
    """Graphs hold addresses; a thousand calls must cost no memory."""
    stream = MimiStream(codec, 3, use_graphs=True)
    stream.capture(codec.config.num_quantizers)
    state = (stream._rows, stream._positions, stream._transformer.ring)
    places = [tensor.data_ptr() for tensor in state]
    total = sum(tensor.nbytes for tensor in state)
    for turn in range(200):
        stream.decode([0, 1, 2][: 1 + turn % 3], random_codes(codec, 1).expand(1 + turn % 3, -1, -1))
        stream.reset(turn % 3)
    assert [tensor.data_ptr() for tensor in state] == places
    assert stream.bytes_per_slot * (stream.slots + 1) == total


def test_what_was_handed_out_is_not_written_over(codec: MimiModel) -> None:
    stream = MimiStream(codec, 1, use_graphs=True)
    first = stream.decode([0], random_codes(codec, 1, seed=1))
    kept = first.clone()
    stream.decode([0], random_codes(codec, 1, seed=2))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_spare_rows_of_a_bucket_move_nobody(codec: MimiModel, batch: int) -> None:
    """Everyone speaks once, so that every row of the buffers has held somebody; then only `batch` do."""
    codes = [random_codes(codec, 8, seed=slot) for slot in range(SLOTS)]
    stream = MimiStream(codec, SLOTS, use_graphs=True)
    heard = [[row] for row in stream.decode(range(SLOTS), torch.cat(codes)[:, :, :1])]
    some = list(range(SLOTS))[-batch:]
    for at in range(1, 8):
        for slot, row in zip(some, stream.decode(some, torch.cat(codes)[some, :, at : at + 1]), strict=True):
            heard[slot].append(row)
    for slot in set(range(SLOTS)) - set(some):
        heard[slot].append(stream.decode([slot], codes[slot][:, :, 1:])[0])
    for slot in range(SLOTS):
        assert_same(torch.cat(heard[slot]), whole(codec, codes[slot]))


def test_slots_as_a_tensor(codec: MimiModel) -> None:
    codes = random_codes(codec, 5)
    pcm = MimiStream(codec, SLOTS).decode(torch.tensor([4]), codes.to(torch.int32))
    assert_same(pcm[0], whole(codec, codes))


def test_bfloat16_stays_in_range_and_comes_out_as_float32() -> None:
    codec = random_codec(**TINY)
    codes = random_codes(codec, 12)
    reference = whole(codec, codes)
    pcm = streamed(MimiStream(codec.to(torch.bfloat16), 1), 0, codes, [1] * 12)
    assert pcm.dtype == torch.float32
    assert torch.isfinite(pcm).all()
    assert (pcm - reference).norm() < 0.1 * reference.norm()


Call = Callable[[MimiStream, Tensor], object]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s, c: s.decode([SLOTS], c), "There is no slot 5: slots are 0 to 4"),
        (lambda s, c: s.decode([-1], c), "There is no slot -1"),
        (lambda s, c: s.decode(torch.tensor([9]), c), "There is no slot 9"),
        (lambda s, c: s.decode([True], c), "There is no slot True"),
        (lambda s, c: s.reset(SLOTS), "There is no slot 5"),
        (lambda s, c: s.decode([1, 1], c.expand(2, -1, -1)), "may appear once"),
        (lambda s, c: s.decode([0, 1], c), "2 slots, 1 rows"),
        (lambda s, c: s.decode(torch.tensor([[0]]), c), "vector of int64"),
        (lambda s, c: s.decode(torch.tensor([0.0]), c), "vector of int64"),
        (lambda s, c: s.decode([0], c[0]), r"got \(5, 3\)"),
        (lambda s, c: s.decode([0], c[:, :, :0]), r"got \(1, 5, 0\)"),
        (lambda s, c: s.decode([], c[:0]), r"got \(0, 5, 3\)"),
        (lambda s, c: s.decode([0], torch.cat([c, c], dim=1)), "1 to 5 codebooks"),
        (lambda s, c: s.decode([0], c.float()), "whole numbers, not torch.float32"),
    ],
)
def test_mistakes_are_told_and_change_nothing(codec: MimiModel, call: Call, says: str) -> None:
    stream = MimiStream(codec, SLOTS)
    codes = random_codes(codec, 3)
    with pytest.raises(ValueError, match=says):
        call(stream, codes)
    assert_same(stream.decode([0], codes)[0], whole(codec, codes))


def test_no_slots_is_a_mistake(codec: MimiModel) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        MimiStream(codec, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_causal_conv": False}, "look ahead"),
        ({"trim_right_ratio": 0.5}, "look ahead"),
        ({"pad_mode": "reflect"}, "'reflect'"),
        ({"audio_channels": 2}, "2 audio channels"),
        ({"decoder_config": None}, "no decoder"),
    ],
)
def test_a_codec_that_cannot_stream_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(EngineUnavailable, match=says):
        MimiStream(random_codec(**{**TINY, **changes}), 1)


def test_a_layer_it_does_not_know_is_refused() -> None:
    codec = random_codec(**TINY)
    codec.decoder.decoder_seanet.layers.append(nn.Tanh())
    with pytest.raises(EngineUnavailable, match="unknown layer, Tanh"):
        MimiStream(codec, 1)


def test_the_real_architecture() -> None:
    """Mimi as CSM has it, random weights: 1,920 samples a frame, 32 codebooks, two streams out of step."""
    codec = random_codec()
    stream = MimiStream(codec, 2)
    assert stream.samples_per_frame == 1920
    one, two = random_codes(codec, 6, seed=1), random_codes(codec, 4, seed=2)
    heard_one = [stream.decode([0], one[:, :, :1])[0]]
    both = [
        stream.decode([1, 0], torch.cat([two[:, :, i : i + 1], one[:, :, i + 1 : i + 2]])) for i in (0, 1)
    ]
    heard_one += [pcm[1] for pcm in both]
    heard_two = [pcm[0] for pcm in both]
    heard_one.append(stream.decode([0], one[:, :, 3:])[0])
    heard_two.append(stream.decode([1], two[:, :, 2:])[0])
    assert_same(torch.cat(heard_one), whole(codec, one))
    assert_same(torch.cat(heard_two), whole(codec, two))
    assert FRAMES_PER_PASS >= 3  # the last calls were one pass each

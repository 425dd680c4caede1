"""Loading through transformers' from_pretrained, and a clear sentence for every way it fails."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from runpod_server.errors import EngineUnavailable
from runpod_server.model.config import CsmShapes
from runpod_server.model.csm import CsmRunner
from runpod_server.model.prompt import Turn, build_prompt
from runpod_server.model.sampling import Sampling
from runpod_server.model.weights import (
    LoadedCsm,
    check_embedding_tie,
    check_transformers_version,
    csm_1b_config,
    load_csm,
    random_csm,
    why_not_loaded,
)


def load(source: Path | str, **changes: Any) -> LoadedCsm:
    return load_csm(source, **({"device": "cpu", "dtype": torch.float32} | changes))


@pytest.fixture
def broken_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be broken."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_checkpoint_loads_whole_and_tied(tiny: LoadedCsm, tiny_folder: Path) -> None:
    assert tiny.source == str(tiny_folder) and tiny.dtype == torch.float32
    assert not tiny.model.training
    check_embedding_tie(tiny.model)
    saved = load_file(tiny_folder / "model.safetensors")
    for name in ("lm_head.weight", "depth_decoder.codebooks_head.weight", "embed_text_tokens.weight"):
        assert torch.equal(tiny.model.state_dict()[name], saved[name])
    assert tiny.shapes == CsmShapes.from_config(tiny.model.config)
    assert tiny.tokenizer.end_of_text_id == 257


def test_the_codec_stays_float32_and_exact_beside_a_bfloat16_model(
    tiny: LoadedCsm, tiny_folder: Path
) -> None:
    half = load(tiny_folder, dtype=torch.bfloat16)
    assert half.model.lm_head.weight.dtype == torch.bfloat16
    for name, weight in half.model.codec_model.state_dict().items():
        assert torch.equal(weight, tiny.model.codec_model.state_dict()[name]), name
    check_embedding_tie(half.model)


def test_loose_embeddings_are_noticed(tiny_folder: Path) -> None:
    csm = load(tiny_folder)
    table = csm.model.backbone_model.embed_tokens.embed_audio_tokens
    table.weight = torch.nn.Parameter(table.weight.clone())
    with pytest.raises(EngineUnavailable, match="came loose.*transformers>=5.21"):
        check_embedding_tie(csm.model)


@pytest.mark.parametrize("version", ["4.57.1", "5.0.0", "5.20.0", "5.20.1.dev0"])
def test_versions_of_transformers_that_load_wrongly_are_refused(version: str) -> None:
    with pytest.raises(EngineUnavailable, match=re.escape(version) + ".*pip install"):
        check_transformers_version(version)


@pytest.mark.parametrize("version", ["5.21.0", "5.21.0.dev0", "5.30.2", "6.0.0rc1", "6"])
def test_versions_that_load_rightly_are_taken(version: str) -> None:
    check_transformers_version(version)


def test_another_kind_of_model_is_refused(broken_folder: Path) -> None:
    change_config(broken_folder, lambda config: config.update(model_type="llama"))
    with pytest.raises(EngineUnavailable, match="CSM_MODEL"):
        load(broken_folder)


def test_biases_are_refused(broken_folder: Path) -> None:
    change_config(broken_folder, lambda config: config.update(attention_bias=True))
    with pytest.raises(EngineUnavailable, match="backbone has biases"):
        load(broken_folder)


def test_missing_weights_are_noticed(broken_folder: Path) -> None:
    change_weights(broken_folder, lambda weights: weights.pop("backbone_model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(EngineUnavailable, match=r"lacks 1 of CSM's weights \(backbone_model.layers.1.*again"):
        load(broken_folder)


def test_weights_of_another_size_are_noticed(broken_folder: Path) -> None:
    change_config(broken_folder, lambda config: config.update(text_vocab_size=300))
    with pytest.raises(EngineUnavailable, match="do not fit its config.json"):
        load(broken_folder)


def test_a_broken_file_is_noticed(broken_folder: Path) -> None:
    weights = broken_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EngineUnavailable, match="cannot be loaded as a CSM checkpoint"):
        load(broken_folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=f"{re.escape(str(tmp_path))} cannot be loaded"):
        load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(broken_folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = broken_folder / name
        path.write_text(path.read_text().replace("<|end_of_text|>", "<|end_of_line|>"))
    with pytest.raises(EngineUnavailable, match=r"no <\|end_of_text\|>"):
        load(broken_folder)


def test_a_missing_gpu_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineUnavailable, match="DEVICE=cuda, but torch sees no GPU"):
        load(tmp_path, device="cuda")


def test_too_little_memory_is_said(make_config: Callable[..., Any]) -> None:
    huge = make_config(text_vocab_size=10**13)
    with pytest.raises(EngineUnavailable, match="not enough memory to load random.*DTYPE"):
        random_csm(huge, device="cpu", dtype=torch.float32)


def test_a_full_disk_is_said_however_deep_its_error_lies() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RuntimeError("data did not arrive") from cause
    except RuntimeError as error:
        assert "the disk is full" in why_not_loaded(error, "sesame/csm-1b", None)


class _Hub(BaseHTTPRequestHandler):
    """Refuses as the hub does."""

    refusal: tuple[int, str] = (401, "GatedRepo")

    def do_HEAD(self) -> None:
        status, code = self.refusal
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    """A hub on loopback in place of huggingface.co, and an empty cache."""
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    try:
        yield _Hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("refusal", "token", "sentence"),
    [
        ((401, "GatedRepo"), None, "HF_TOKEN is not set: accept the licence at https://huggingface.co"),
        ((403, "GatedRepo"), "hf_x", "the account of HF_TOKEN has not accepted its licence"),
        ((404, "RepoNotFound"), "hf_x", "the hub knows no nobody/model-.* that HF_TOKEN may read"),
        ((401, "RepoNotFound"), None, "HF_TOKEN is not set"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    hub: type[_Hub], refusal: tuple[int, str], token: str | None, sentence: str
) -> None:
    hub.refusal = refusal
    with pytest.raises(EngineUnavailable, match=sentence):
        load(f"nobody/model-{refusal[0]}-{refusal[1]}", token=token)


def test_a_hub_out_of_reach_is_explained(hub: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EngineUnavailable, match="the hub cannot be reached"):
        load("nobody/model-offline")


def test_csm_1b_has_the_published_sizes() -> None:
    shapes = CsmShapes.from_config(csm_1b_config())
    backbone, depth = shapes.backbone, shapes.depth
    assert (backbone.layers, backbone.hidden, backbone.heads, backbone.kv_heads, backbone.head_dim) == (
        16,
        2048,
        32,
        8,
        64,
    )
    assert (depth.layers, depth.hidden, depth.heads, depth.kv_heads, depth.head_dim) == (4, 1024, 8, 2, 128)
    assert backbone.mlp == depth.mlp == 8192
    assert (shapes.codebooks, shapes.code_vocab, shapes.sound_codes) == (32, 2051, 2048)
    assert (shapes.max_positions, shapes.frame_samples, shapes.sample_rate_hz) == (2048, 1920, 24_000)
    assert (shapes.begin_text_id, shapes.audio_id, shapes.audio_eos_id) == (128_000, 128_002, 128_003)
    assert shapes.kv_bytes_per_position(2) == 32 * 1024


def test_random_weights_run_and_never_name_a_code_without_sound(make_config: Callable[..., Any]) -> None:
    config = make_config(vocab_size=67, codebook_pad_token_id=66)
    config.depth_decoder_config.vocab_size = 67
    csm = random_csm(config, device="cpu", dtype=torch.float32)
    assert csm.source == "random" and csm.shapes.sound_codes == 64
    again = random_csm(config, device="cpu", dtype=torch.float32)
    assert torch.equal(csm.model.lm_head.weight, again.model.lm_head.weight)
    runner = CsmRunner(csm.model, slots=64)
    prompt = runner.embed(build_prompt([Turn(0, "abc")], csm.tokenizer, csm.shapes))
    for slot in range(64):
        runner.begin(slot, Sampling(5.0, 0, seed=slot))
        runner.prefill(slot, prompt)
    frame = runner.step(range(64))
    assert frame.codes.max() == 63
    assert csm.model.codec_model.decode(frame.codes.unsqueeze(-1)).audio_values.isfinite().all()

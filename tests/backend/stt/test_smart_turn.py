"""The turn model: features as transformers makes them, the real loading code on tiny models."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from backend.errors import ConfigError
from backend.stt.log_mel import log_mel
from backend.stt.smart_turn import SmartTurn, features
from tests.backend.stt.turn_models import noise, tiny_model


@pytest.mark.parametrize("kind", ["noise", "half silent", "tone", "silence"])
def test_the_features_are_those_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    chance = np.random.default_rng(1)
    samples = {
        "noise": chance.normal(0, 0.1, 128_000),
        "half silent": np.concatenate((np.zeros(64_000), chance.normal(0, 0.1, 64_000))),
        "tone": np.sin(np.arange(128_000) * 0.1),
        "silence": np.zeros(128_000),
    }[kind].astype(np.float32)
    reference = transformers.WhisperFeatureExtractor(chunk_length=8)(
        samples, sampling_rate=16_000, return_tensors="np", do_normalize=True
    ).input_features[0]  # fmt: skip
    ours = log_mel(samples)
    assert ours.shape == reference.shape == (80, 800)
    assert np.abs(ours - reference).max() < 1e-4


def test_short_sound_stands_at_the_end_of_the_window_and_of_long_sound_the_end_counts() -> None:
    short = features(noise(1.0))
    quiet, loud = short[:, :690].mean(), short[:, 710:].mean()
    assert quiet < loud - 0.5
    assert np.array_equal(features(noise(3.0, 1) + noise(8.0, 2)), features(noise(8.0, 2)))
    assert features(b"").shape == features(b"\x01").shape == (80, 800)


async def test_a_model_judges_what_it_hears(tmp_path: Path) -> None:
    model = SmartTurn(tiny_model(tmp_path / "tiny.onnx"))
    try:
        speech = noise(2.0)
        wanted = 1 / (1 + np.exp(-float(features(speech).mean())))
        assert await model.judge(speech) == pytest.approx(wanted, abs=1e-5)
        assert await model.judge(b"") is None
    finally:
        model.close()
    assert await model.judge(noise(1.0)) is None, "closed: no opinion, no error"
    model.close()


async def test_more_than_four_at_once_get_no_opinion_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SmartTurn(tiny_model(tmp_path / "tiny.onnx"))
    free = threading.Event()
    real = model._run
    monkeypatch.setattr(model, "_run", lambda batch: (free.wait(20), real(batch))[1])
    try:
        judging = [asyncio.create_task(model.judge(noise(0.5, seed))) for seed in range(6)]
        for refused in judging[4:]:
            assert await refused is None
        free.set()
        assert None not in await asyncio.gather(*judging[:4])
        assert await model.judge(noise(0.5)) is not None, "there is room again"
    finally:
        free.set()
        model.close()


async def test_a_model_that_fails_has_no_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = SmartTurn(tiny_model(tmp_path / "tiny.onnx"))

    def broken(batch: object) -> float:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(model, "_run", broken)
    try:
        assert await model.judge(noise(0.5)) is None
    finally:
        model.close()
    assert "out of luck" in caplog.text


@pytest.mark.parametrize("problem", ["missing", "rubbish", "other input", "no probability"])
def test_what_is_no_turn_model_is_refused_with_a_sentence(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "model.onnx"
    if problem == "rubbish":
        path.write_bytes(b"<html>404</html>")
    elif problem == "other input":
        tiny_model(path, input_name="audio")
    elif problem == "no probability":
        tiny_model(path, bias=7.0, squash=False)
    with pytest.raises(ConfigError, match="SMART_TURN_MODEL") as caught:
        SmartTurn(path)
    assert str(path) in str(caught.value)
    assert "docs/how-to/turn-taking.md" in str(caught.value)

"""Is the caller done? By the melody of their voice: a Smart Turn model (version 3, ONNX), off the event loop.

An opinion beside that of the words, never a condition: overloaded or failing, there is none.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from backend.core.resample import Resampler
from backend.errors import ConfigError
from backend.extras import install_command
from backend.stt.log_mel import HOP, MELS, RATE_HZ, Floats, log_mel

log = logging.getLogger(__name__)

IN_HZ = 8_000
WINDOW_S = 8
_INPUT = "input_features"
_FRAMES = WINDOW_S * RATE_HZ // HOP
_MAX_WAITING = 4  # 60 ms each: a later opinion comes after the decision
_WHERE = "See docs/how-to/turn-taking.md for where the model comes from."


class SmartTurn:
    """One loaded model for all calls, in one thread of its own.

    The model: `input_features` (1, 80, 800) float32 → one figure, the probability that the turn is over.
    At most 4 judgements wait; beyond that there is no opinion.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when `path` is no such model."""
        try:
            import onnxruntime
        except ImportError as error:
            what = f"SMART_TURN_MODEL needs onnxruntime: {install_command('smart-turn')}"
            raise ConfigError(what) from error
        if not path.is_file():
            raise ConfigError(f"SMART_TURN_MODEL: there is no file {path}. {_WHERE}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._model = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding's errors have no common root
            raise ConfigError(
                f"SMART_TURN_MODEL: {path} is no ONNX model that can be loaded: {error}. {_WHERE}"
            ) from error
        self._check(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn")
        self._waiting = 0
        self._closed = False

    def _check(self, path: Path) -> None:
        inputs = {entry.name: entry.shape for entry in self._model.get_inputs()}
        if set(inputs) != {_INPUT}:
            what = f"takes {', '.join(inputs)} where {_INPUT} is wanted"
            raise ConfigError(f"SMART_TURN_MODEL: {path} is no Smart Turn 3: it {what}. {_WHERE}")
        try:
            probability = self._run(np.zeros((1, MELS, _FRAMES), np.float32))
        except Exception as error:
            raise ConfigError(f"SMART_TURN_MODEL: {path} is no Smart Turn 3: {error}. {_WHERE}") from error
        if not 0.0 <= probability <= 1.0:
            what = f"gives {probability:g} where a probability is wanted"
            raise ConfigError(f"SMART_TURN_MODEL: {path} is no Smart Turn 3: it {what}. {_WHERE}")

    async def judge(self, pcm16_8k: bytes) -> float | None:
        """How likely it is that who spoke like this is done, 0 to 1; None: no opinion.

        `pcm16_8k`: a turn so far with the pause after it, little-endian int16 at 8 kHz; the last 8 s count.
        """
        if self._closed or self._waiting >= _MAX_WAITING or not pcm16_8k:
            return None
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, pcm16_8k)
        except Exception:
            log.exception("the turn model failed: this turn ends by its words alone")
            return None
        finally:
            self._waiting -= 1

    def _judge(self, pcm16_8k: bytes) -> float:
        return self._run(features(pcm16_8k)[np.newaxis])

    def _run(self, batch: Floats) -> float:
        (result,) = self._model.run(None, {_INPUT: batch})
        return float(np.asarray(result).reshape(1)[0])

    def close(self) -> None:
        """Stop the thread; blocks while one judgement runs. May be called twice."""
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)


def features(pcm16_8k: bytes) -> Floats:
    """The last 8 s of the sound, silence before it if there is less → (80, 800)."""
    recent = pcm16_8k[: len(pcm16_8k) & ~1][-WINDOW_S * IN_HZ * 2 :]
    up = Resampler(IN_HZ, RATE_HZ)
    samples = np.frombuffer(up.push(recent) + up.flush(), "<i2").astype(np.float32) / 32768.0
    window = np.zeros(WINDOW_S * RATE_HZ, np.float32)
    samples = samples[-len(window) :]
    if len(samples):
        window[-len(samples) :] = samples
    return log_mel(window)

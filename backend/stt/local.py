"""Speech-to-text on this machine (Moonshine tiny, English), off the event loop in one thread of its own.

Moonshine's own voice detection leaks state between utterances and hears "You" in silence, so it is
switched off here: callers gate the audio with `backend.stt.vad` and pass whole utterances only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from backend.core.resample import Resampler
from backend.errors import HearingError

IN_HZ = 8_000
_MODEL_HZ = 16_000
_MIN_SAMPLES = IN_HZ // 10
_MAX_WAITING = 32
_AUDIBLE = 50  # of 32768; below it there is only the line's hiss, in which the model hears words
# The model's time grows with the square of the length, and beyond half a minute it repeats itself.
_MAX_SAMPLES = 12 * IN_HZ
_EARLIEST_CUT = 8 * IN_HZ
_CUT_FRAME = IN_HZ // 10
_LETTER = re.compile(r"[^\W_]")


class LocalTranscriber:
    """The embedded recogniser. One worker thread: more are slower than one.

    At most 32 utterances wait; the next one is refused with `HearingError` rather than answered too late.
    """

    name = "local"

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        self._model = Transcriber(
            str(get_model_path("tiny-en")), ModelArch.TINY, options={"vad_threshold": "0.0"}
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="speech-to-text")
        self._waiting = 0
        self._closed = False

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance (little-endian int16 mono, 8 kHz); "" when there are none.

        Raises HearingError when the recogniser fails or is closed, or too many utterances wait.
        """
        if self._waiting >= _MAX_WAITING:
            raise HearingError(
                f"speech-to-text is overloaded: {_MAX_WAITING} utterances are waiting", reason="busy"
            )
        self._waiting += 1
        try:
            # Part by part, so that a long story does not keep the other calls waiting.
            texts = [await self._in_thread(part) for part in utterance_parts(pcm16_8k)]
        finally:
            self._waiting -= 1
        return " ".join(filter(None, texts))

    async def _in_thread(self, part: NDArray[np.int16]) -> str:
        if self._closed:
            raise HearingError("speech-to-text is closed", reason="closed")
        try:
            # By the loop, which may have a clock of its own that must not leap over the work.
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, part)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: `close` cancelled what waited for the thread.
            what = "speech-to-text was closed while the utterance waited"
            raise HearingError(what, reason="closed") from None

    def _run(self, part: NDArray[np.int16]) -> str:
        up = Resampler(IN_HZ, _MODEL_HZ)
        samples = np.frombuffer(up.push(part.tobytes()) + up.flush(), "<i2").astype(np.float32) / 32768.0
        try:
            transcript = self._model.transcribe_without_streaming(samples.tolist(), _MODEL_HZ)
        except Exception as error:  # the binding raises bare and library-specific errors alike
            raise HearingError(f"speech-to-text failed: {error}") from error
        text = " ".join(line.text.strip() for line in transcript.lines if line.text).strip()
        return text if _LETTER.search(text) else ""

    def close(self) -> None:
        """Stop the thread and free the model; utterances still waiting fail with HearingError.

        Blocks while one is being recognised. May be called twice.
        """
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._model.close()


def utterance_parts(pcm16_8k: bytes) -> Iterator[NDArray[np.int16]]:
    """The audible parts of an utterance, each at most 12 s, cut where it is quietest."""
    rest = np.frombuffer(pcm16_8k[: len(pcm16_8k) & ~1], "<i2")
    while len(rest) >= _MIN_SAMPLES:
        cut = len(rest) if len(rest) <= _MAX_SAMPLES else _quietest(rest)
        part, rest = rest[:cut], rest[cut:]
        if np.abs(part.astype(np.int32)).max() >= _AUDIBLE:
            yield part


def _quietest(samples: NDArray[np.int16]) -> int:
    frames = samples[_EARLIEST_CUT:_MAX_SAMPLES].astype(np.float64).reshape(-1, _CUT_FRAME)
    loudness = np.square(frames).sum(axis=1)
    return _EARLIEST_CUT + int(loudness.argmin()) * _CUT_FRAME + _CUT_FRAME // 2

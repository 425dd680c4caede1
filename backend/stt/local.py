"""Speech-to-text on this machine (Moonshine tiny, English), off the event loop in one thread of its own.

Moonshine's own voice detection leaks state between utterances and hears "You" in silence, so it is
switched off here: callers gate the audio with `backend.stt.vad` and pass whole utterances only.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from backend.core.resample import Resampler
from backend.errors import HearingError

IN_HZ = 8_000
_MODEL_HZ = 16_000
_MIN_SAMPLES = IN_HZ // 10
_MAX_WAITING = 32


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

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance (little-endian int16 mono, 8 kHz); "" when there are none.

        Raises HearingError when the recogniser fails or too many utterances wait.
        """
        if self._waiting >= _MAX_WAITING:
            raise HearingError(f"speech-to-text is overloaded: {_MAX_WAITING} utterances are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, pcm16_8k)
        finally:
            self._waiting -= 1

    def _run(self, pcm16_8k: bytes) -> str:
        if len(pcm16_8k) // 2 < _MIN_SAMPLES:
            return ""
        up = Resampler(IN_HZ, _MODEL_HZ)
        samples = np.frombuffer(up.push(pcm16_8k) + up.flush(), "<i2").astype(np.float32) / 32768.0
        try:
            transcript = self._model.transcribe_without_streaming(samples.tolist(), _MODEL_HZ)
        except Exception as error:  # the binding raises bare and library-specific errors alike
            raise HearingError(f"speech-to-text failed: {error}") from error
        return " ".join(line.text.strip() for line in transcript.lines if line.text).strip()

    def close(self) -> None:
        """Stop the thread and free the model; utterances still waiting are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._model.close()

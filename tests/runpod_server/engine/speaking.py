"""What the tests of the CSM engines ask it for, and how they listen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from runpod_server.audio import pcm16_from_float, wav
from runpod_server.engine.csm import CsmEngine
from runpod_server.engine.request import SpeechRequest

TOLERANCE = 1e-4
REFERENCE = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) ** 1.2 / 90)))


@asynccontextmanager
async def ready(engine: CsmEngine) -> AsyncIterator[CsmEngine]:
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


def asked(text: str, **fields: Any) -> SpeechRequest:
    return SpeechRequest(text=text, request_id=text, **fields)


async def spoken(engine: CsmEngine, request: SpeechRequest) -> tuple[Any, str | None]:
    """Samples in -1 … 1, and the reason."""
    with engine.open(request) as stream:
        pcm16 = b"".join([piece async for piece in stream])
    return np.frombuffer(pcm16, "<i2") / 32767, stream.reason

"""What the composition root makes of settings that name a file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from backend.app import melody_judge
from backend.errors import ConfigError
from backend.settings import Settings
from tests.backend.stt.turn_models import noise, tiny_model


async def test_a_turn_model_judges_until_the_backend_stops(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, smart_turn_model=tiny_model(tmp_path / "tiny.onnx"))
    async with AsyncExitStack() as stack:
        judge = melody_judge(settings, stack)
        assert judge is not None
        assert await judge(noise(1.0)) is not None
    assert await judge(noise(1.0)) is None


async def test_without_a_turn_model_words_alone_tell() -> None:
    async with AsyncExitStack() as stack:
        assert melody_judge(Settings(_env_file=None), stack) is None


async def test_a_turn_model_that_is_not_there_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="SMART_TURN_MODEL: there is no file"):
            melody_judge(Settings(_env_file=None, smart_turn_model=tmp_path / "gone.onnx"), stack)

"""The recogniser of an installation that has none: every utterance fails, with the way to install it."""

from __future__ import annotations

from backend.errors import HearingError
from backend.extras import install_command


class AbsentTranscriber:
    """Stands where the embedded recogniser would."""

    def __init__(self) -> None:
        self.lack = f"the embedded recogniser is not installed: {install_command('local')}"

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Raises HearingError."""
        raise HearingError(self.lack, reason="not_ready")

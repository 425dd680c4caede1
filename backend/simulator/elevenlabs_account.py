"""The stand-in's account: key, voices, credit, and how the vendor words a refusal. Knows no sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backend.simulator.elevenlabs_formats import FORMATS

VOICES = {"21m00Tcm4TlvDq8ikWAM": "Rachel", "pNInz6obpgDQGcFmaJgB": "Adam"}
MODELS = ("eleven_flash_v2_5", "eleven_turbo_v2_5", "eleven_multilingual_v2", "eleven_v3")
_HALF_PRICE = ("eleven_flash", "eleven_turbo")
_LONGEST_TEXT = 40_000


class Refused(Exception):
    """The vendor says no. `code` is its machine-readable word."""

    def __init__(self, status: int, code: str, message: str, *, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code, self.kind = status, code, kind

    def body(self) -> dict[str, dict[str, str]]:
        """As HTTP has it; `status` is the older name of `code`."""
        return {"detail": {"type": self.kind, "code": self.code, "status": self.code, "message": str(self)}}

    def frame(self) -> dict[str, str | int]:
        """As a WebSocket has it, before it closes."""
        return {"message": str(self), "error": self.code, "code": 1008}


@dataclass(slots=True)
class Account:
    """`api_key` "": any key will do. `silent_quota`: sockets out of credit end without sound or a word."""

    api_key: str = "local-key"
    character_limit: int = 100_000
    character_count: int = 0
    concurrency: int = 10
    silent_quota: bool = True
    voices: dict[str, str] = field(default_factory=lambda: dict(VOICES))
    speaking: int = 0

    def check_key(self, given: str | None) -> None:
        """Raises Refused."""
        if not given or (self.api_key and given != self.api_key):
            raise Refused(401, "invalid_api_key", "Invalid API key", kind="authentication_error")

    def check_request(
        self, *, voice_id: str, model_id: str, output_format: str, socket: bool = False
    ) -> None:
        """Raises Refused."""
        if voice_id not in self.voices:
            code, status = ("voice_id_does_not_exist", 1008) if socket else ("voice_not_found", 404)
            raise Refused(
                status, code, f"A voice with the voice_id {voice_id} does not exist.", kind="not_found"
            )
        if model_id not in MODELS:
            raise Refused(400, "model_not_found", f"A model with model ID {model_id} does not exist.")
        if socket and model_id == "eleven_v3":
            raise Refused(400, "unsupported_model", "eleven_v3 cannot be used with this WebSocket.")
        if output_format not in FORMATS:
            raise Refused(
                400,
                "invalid_output_format",
                f"This stand-in gives {', '.join(FORMATS)}; not {output_format}.",
            )

    def charge(self, text: str, model_id: str) -> None:
        """Raises Refused when the credit does not suffice or the text is too long."""
        if len(text) > _LONGEST_TEXT:
            raise Refused(400, "max_character_limit_exceeded", f"The text has {len(text)} characters.")
        credits = -(-len(text) // 2) if model_id.startswith(_HALF_PRICE) else len(text)
        left = self.character_limit - self.character_count
        if credits > left:
            message = (
                f"This request exceeds your quota of {self.character_limit}. You have {left} credits "
                f"remaining, while {credits} credits are required for this request."
            )
            raise Refused(401, "quota_exceeded", message, kind="payment_required")
        self.character_count += credits

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Sockets and requests count against the plan only while they generate. Raises Refused."""
        if self.speaking >= self.concurrency:
            raise Refused(
                429,
                "concurrent_limit_exceeded",
                f"Too many concurrent requests. Your subscription allows {self.concurrency}.",
                kind="rate_limit_error",
            )
        self.speaking += 1
        try:
            yield
        finally:
            self.speaking -= 1

    def subscription(self) -> dict[str, object]:
        """What `GET /v1/user/subscription` tells."""
        return {
            "tier": "creator",
            "character_count": self.character_count,
            "character_limit": self.character_limit,
            "max_credit_limit_extension": 0,
            "can_extend_character_limit": False,
            "allowed_to_extend_character_limit": False,
            "voice_slots_used": 0,
            "professional_voice_slots_used": 0,
            "voice_limit": 30,
            "voice_add_edit_counter": 0,
            "professional_voice_limit": 1,
            "can_extend_voice_limit": False,
            "can_use_instant_voice_cloning": True,
            "can_use_professional_voice_cloning": True,
            "status": "active",
        }

"""How an agent speaks, hears, thinks and takes turns, and what its calls may cost. Models only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from backend.core.agent_fields import AgentModel, HttpUrl, Secret, Text, Texts
from backend.core.hearing import EarName

ONE_MOMENT = "One moment, please."
Fallback = Literal["sesame_rest", "sesame_fallback", "elevenlabs", "elevenlabs_rest", "telnyx"]


class SesameSettings(AgentModel):
    """How the Sesame speech server speaks; what is left out is the server's default."""

    speaker_id: int = Field(0, ge=0, le=9, description="The speaker, 0–9.")
    voice: str | None = Field(None, min_length=1, description="A named voice on the speech server.")
    temperature: float | None = Field(None, ge=0, le=2, description="Sampling temperature; 0 is greedy.")
    top_k: int | None = Field(None, ge=1, le=2051, description="Codes considered per step.")
    seed: int | None = Field(None, ge=0, description="The same seed, text and voice give the same speech.")
    chunk_samples: int | None = Field(
        None, ge=480, le=24000, description="Samples per chunk at 24 kHz; the server's default is 4800."
    )
    max_audio_length_ms: int | None = Field(
        None, ge=100, le=600_000, description="Longest speech per request; by the text's length if left out."
    )


class ElevenLabsSettings(AgentModel):
    """How ElevenLabs speaks."""

    voice_id: str | None = Field(None, min_length=1, description="ElevenLabs' voice id.")
    model_id: str = Field("eleven_flash_v2_5", min_length=1, description="ElevenLabs' model.")
    stability: float | None = Field(None, ge=0, le=1)
    similarity_boost: float | None = Field(None, ge=0, le=1)
    style: float | None = Field(None, ge=0, le=1)
    use_speaker_boost: bool | None = None
    speed: float | None = Field(None, ge=0.7, le=1.2)


class SttSettings(AgentModel):
    """How the caller is heard."""

    provider: EarName = Field(
        "local",
        description="`local`: the embedded recogniser (English), on this machine; `openai`: any server with "
        "OpenAI's transcriptions; `telnyx`: the carrier listens along.",
    )
    model: str | None = Field(
        None, min_length=1, description="The provider's model, if it has several; not its fallbacks'."
    )
    base_url: HttpUrl | None = Field(None, description="For `openai`: instead of OPENAI_BASE_URL.")
    key_terms: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=2, max_length=50, pattern=r"\S")], ...],
        Field(max_length=100),
    ] = Field((), description="Names and words callers are likely to say, as they are written.")
    fallbacks: tuple[EarName, ...] = Field(
        (), description="Tried in order when the provider fails; in English, `local` is the last in any case."
    )
    timeout_ms: int = Field(
        1500, ge=200, le=20_000, description="After this the next one gets the same words to hear."
    )


class LlmSettings(AgentModel):
    """What answers freely; `none`: the call flow alone decides."""

    provider: Literal["none", "openai"] = Field(
        "none", description="`openai`: any server with OpenAI's chat interface."
    )
    model: str | None = Field(None, min_length=1)
    base_url: HttpUrl | None = Field(None, description="Instead of OPENAI_BASE_URL, for this agent.")
    api_key: Secret | None = Field(
        None, description="{{secret:NAME}}; if left out: OPENAI_API_KEY, where OPENAI_BASE_URL is asked."
    )
    fallback_model: str | None = Field(
        None, min_length=1, description="Asked when the first one fails before its first word."
    )
    fallback_base_url: HttpUrl | None = Field(None, description="Where the fallback is, if elsewhere.")
    fallback_api_key: Secret | None = Field(None, description="{{secret:NAME}}, as `api_key`.")
    first_token_ms: int | None = Field(
        None,
        ge=200,
        le=60_000,
        description="A model that says nothing for this long has failed. If left out: 4000, or 2500 for one "
        "whose fallback can be asked.",
    )
    timeout_ms: int = Field(
        30_000, ge=500, le=600_000, description="Longest time a reply may take, its fallback's included."
    )
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    preemptive: bool = Field(
        True, description="Begin the answer in the caller's last pause; thrown away if they go on."
    )

    filler_ms: int | None = Field(
        1800,
        ge=0,
        le=20_000,
        description="When nothing of an answer has come for this long, `filler` is said; 0 or null: never.",
    )
    filler: Text | None = Field(
        None, description="As it is said. If left out: “One moment, please.” in English, else nothing."
    )

    def bridge(self, language: str) -> str | None:
        """What is said while an answer does not come; None: nothing."""
        if not self.filler_ms or self.provider == "none":
            return None
        return self.filler or (ONE_MOMENT if language.startswith("en") else None)

    @model_validator(mode="after")
    def _needs_model(self) -> LlmSettings:
        if self.provider != "none" and self.model is None:
            raise ValueError(f"provider {self.provider!r} needs a model")
        return self


class TurnSettings(AgentModel):
    """Taking turns with the caller."""

    end_of_turn_ms: int = Field(320, ge=100, le=5000, description="Quiet that ends a finished sentence.")
    incomplete_ms: int = Field(
        900, ge=100, le=10_000, description="Quiet that ends one that trails off: “the …”."
    )
    digits_ms: int = Field(1100, ge=100, le=10_000, description="Quiet that ends digits being given.")
    barge_in: bool = Field(True, description="Whether the caller may interrupt at all.")
    min_speech_ms: int = Field(120, ge=20, le=2000, description="Speech shorter than this is noise.")
    idle_ms: int = Field(8000, ge=1000, le=120_000, description="Quiet after which an idle prompt is said.")
    idle_prompts: Texts = Field(
        ("Are you still there?",), description="Said one after another while the caller is silent."
    )
    idle_goodbye: Text = Field(
        "I can't hear you, so I will hang up now. Goodbye.",
        description="Said when the idle prompts are used up.",
    )
    reprompt: Text = Field("Sorry, I didn't catch that.", description="Said when no transition fits.")
    max_reprompts: int = Field(
        2, ge=0, le=10, description="How often at one node; then the call ends politely."
    )
    go_on: Text = Field(
        "Please go on.", description="Said when the rest of a number or an address does not come."
    )
    give_up: Text = Field(
        "I'm sorry, I still didn't understand. Please call again. Goodbye.",
        description="Said when the reprompts are used up.",
    )


class Limits(AgentModel):
    """What a call may cost."""

    max_call_seconds: int = Field(900, ge=10, le=14_400)
    max_silence_seconds: int = Field(30, ge=5, le=600, description="Quiet in a row that ends the call.")
    budget_usd: float | None = Field(
        None, gt=0, description="The call ends politely when it has cost this much."
    )
    goodbye: Text = Field(
        "I'm sorry, our time is up. Please call again. Goodbye.",
        description="Said when the call has lasted or cost as much as it may.",
    )


class FailoverSettings(AgentModel):
    """When a voice fails: how soon the next one takes over, and what happens when none is left."""

    first_audio_ms: int = Field(
        1500, ge=200, le=20_000, description="A voice that says nothing for this long has failed."
    )
    hedge_ms: int | None = Field(
        None,
        ge=50,
        le=20_000,
        description="A first sound later than this starts the next voice beside it; the faster one speaks.",
    )
    apology: Text = Field(
        "I'm sorry, we are having a technical problem. Please call again later. Goodbye.",
        description="Said when no voice is left, by a recording.",
    )
    transfer_to: Text | None = Field(
        None, description="Where the call goes after the apology, as in a transfer action; none: hang up."
    )


class RecordingSettings(AgentModel):
    """Recording by the carrier."""

    enabled: bool = False
    channels: Literal["single", "dual"] = "dual"
    format: Literal["mp3", "wav"] = "mp3"


class VoicemailSettings(AgentModel):
    """What to do when a machine answers an outbound call."""

    detect: bool = False
    message: Text | None = Field(None, description="Left after the tone; none: hang up.")

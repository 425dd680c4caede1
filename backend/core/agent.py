"""A call agent as its file describes it: voice, ears, brain, call flow, turn taking and limits.

Models only, checked field by field; `backend.core.agent_checks` checks what spans fields. Refuses to know
where the file lies and how any of it is carried out.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from backend.core.answers import AnswerType
from backend.core.hearing import EarName
from backend.core.matching import KeyPattern
from backend.core.templates import template_problem
from backend.core.tool_request import header_problem, parameters_problem, url_problem


class _Model(BaseModel):
    # strict: "320" is not a number and 1 is not true; a typing slip is told, not guessed at.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; leave the field out when nothing is to be said")
    if problem := template_problem(text):
        raise ValueError(problem)
    return text


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return pattern


def _check_keys(pattern: str) -> str:
    KeyPattern.parse(pattern)
    return pattern


def _one_or_more(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    # The list is Python's by now, and a strict tuple would refuse it.
    return tuple(value) if isinstance(value, list) else value


NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
SLUG_OR_UUID = r"^([a-z0-9]+(-[a-z0-9]+)*|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"

Text = Annotated[str, Field(max_length=4000), AfterValidator(_check_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_more, json_schema_input_type=Text | list[Text])]
VariableName = Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
E164 = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
NodeId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+", max_length=2000)]
Secret = Annotated[str, StringConstraints(pattern=r"^\{\{secret:[A-Za-z_][A-Za-z0-9_]*\}\}$", max_length=100)]
Fallback = Literal["sesame_rest", "sesame_fallback", "elevenlabs", "elevenlabs_rest", "telnyx"]


class SesameSettings(_Model):
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


class ElevenLabsSettings(_Model):
    """How ElevenLabs speaks."""

    voice_id: str | None = Field(None, min_length=1, description="ElevenLabs' voice id.")
    model_id: str = Field("eleven_flash_v2_5", min_length=1, description="ElevenLabs' model.")
    stability: float | None = Field(None, ge=0, le=1)
    similarity_boost: float | None = Field(None, ge=0, le=1)
    style: float | None = Field(None, ge=0, le=1)
    use_speaker_boost: bool | None = None
    speed: float | None = Field(None, ge=0.7, le=1.2)


class SttSettings(_Model):
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


class LlmSettings(_Model):
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
    first_token_ms: int = Field(
        4000, ge=200, le=60_000, description="A model that says nothing for this long has failed."
    )
    timeout_ms: int = Field(
        30_000, ge=500, le=600_000, description="Longest time a reply may take, its fallback's included."
    )
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    preemptive: bool = Field(
        True, description="Begin the answer in the caller's last pause; thrown away if they go on."
    )

    @model_validator(mode="after")
    def _needs_model(self) -> LlmSettings:
        if self.provider != "none" and self.model is None:
            raise ValueError(f"provider {self.provider!r} needs a model")
        return self


class Collect(_Model):
    """Keep what the caller answers here in a variable."""

    name: VariableName
    type: AnswerType = Field(
        "text",
        description="`text`: the words; `digits`: the keys pressed or digits spoken; the others as they say.",
    )
    confirm: bool | Text = Field(
        False,
        description="Read it back and ask if it is right; a text of one's own may hold the {{variable}}.",
    )


class HangupAction(_Model):
    """End the call."""

    type: Literal["hangup"]


class TransferAction(_Model):
    """Hand the call to somebody else."""

    type: Literal["transfer"]
    to: Text = Field(description="+15551234567, a sip: address, or a {{variable}} that holds one.")


class DtmfAction(_Model):
    """Press keys on the line; `w` waits half a second."""

    type: Literal["dtmf"]
    digits: Annotated[str, StringConstraints(pattern=r"^[0-9A-D*#wW]{1,64}$")]


class WebhookAction(_Model):
    """Tell another system; the call does not wait for it."""

    type: Literal["webhook"]
    url: HttpUrl


class RecordAction(_Model):
    """Start or stop recording."""

    type: Literal["record"]
    on: bool = True


ActionSettings = Annotated[
    HangupAction | TransferAction | DtmfAction | WebhookAction | RecordAction, Field(discriminator="type")
]


class When(_Model):
    """The condition of a transition: exactly one of these."""

    keywords: (
        Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], Field(min_length=1)] | None
    ) = Field(None, description="Any of these words or phrases is said; case and punctuation do not matter.")
    regex: Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_regex)] | None = Field(
        None, description="Found in what was said, whatever the case; named groups become variables."
    )
    digits: Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_keys)] | None = Field(
        None, description='These keys are pressed, or digits spoken: "1", "[0-9]{4}".'
    )
    intent: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="The language model finds that the caller wants this."
    )
    silence_ms: int | None = Field(
        None,
        ge=500,
        le=120_000,
        description="The caller says nothing for this long; replaces idle prompts here.",
    )
    tool: str | None = Field(None, min_length=1, description="This tool was used.")
    otherwise: Literal[True] | None = Field(None, description="Nothing else fits: the last resort.")

    @model_validator(mode="after")
    def _exactly_one(self) -> When:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(type(self).model_fields)}"
                + (f", not {' and '.join(given)} together: write a transition for each" if given else "")
            )
        return self

    @property
    def needs_caller(self) -> bool:
        """Whether only something the caller does, or fails to do, can meet it."""
        return not (self.otherwise or self.tool)


class Transition(_Model):
    """Where to go on what."""

    to: NodeId
    when: When
    set: dict[VariableName, Annotated[str, StringConstraints(max_length=1000)]] = Field(
        default_factory=dict,
        description="Variables set when taken, to these very words.",
    )


class Node(_Model):
    """One step of the conversation: say, act, then listen and go on."""

    id: NodeId
    say: Texts = Field((), description="Said on entering: a text or several, {{variables}} filled in.")
    prompt: Text | None = Field(None, description="What the language model is to do here.")
    listen: bool | None = Field(
        None, description="Wait for the caller. If left out: yes where a transition or `collect` needs them."
    )
    collect: Collect | None = None
    tools: tuple[str, ...] = Field((), description="Tools the language model may use here.")
    actions: tuple[ActionSettings, ...] = Field((), description="Done after speaking, in order.")
    transitions: tuple[Transition, ...] = Field(
        (), description="Tried in order; the first that fits is taken."
    )
    reprompt: Text | None = Field(
        None, description="Said when no transition fits, instead of `turns.reprompt` and the question again."
    )
    interruptible: bool | None = Field(
        None, description="Whether the caller may interrupt. If left out: yes where the node listens."
    )

    @property
    def ends_call(self) -> bool:
        return any(action.type in ("hangup", "transfer") for action in self.actions)

    @property
    def onward(self) -> Transition | None:
        """Its last resort, if it has one."""
        return next((item for item in self.transitions if item.when.otherwise), None)

    @property
    def listens(self) -> bool:
        """Whether the node waits for the caller once it has spoken."""
        if self.listen is not None:
            return self.listen
        if self.prompt and any(item.when.tool for item in self.transitions):
            return True  # a tool is seldom used before the caller has said what for
        return self.collect is not None or any(item.when.needs_caller for item in self.transitions)


class CallFlow(_Model):
    """The conversation as a graph of nodes."""

    start: NodeId
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    transitions: tuple[Transition, ...] = Field(
        (), description="Tried at every listening node, before its own."
    )


class TurnSettings(_Model):
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
    give_up: Text = Field(
        "I'm sorry, I still didn't understand. Please call again. Goodbye.",
        description="Said when the reprompts are used up.",
    )


class Limits(_Model):
    """What a call may cost."""

    max_call_seconds: int = Field(900, ge=10, le=14_400)
    max_silence_seconds: int = Field(30, ge=5, le=600, description="Quiet in a row that ends the call.")
    budget_usd: float | None = Field(
        None, gt=0, description="The call ends politely when it has cost this much."
    )


class FailoverSettings(_Model):
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


class RecordingSettings(_Model):
    """Recording by the carrier."""

    enabled: bool = False
    channels: Literal["single", "dual"] = "dual"
    format: Literal["mp3", "wav"] = "mp3"


class VoicemailSettings(_Model):
    """What to do when a machine answers an outbound call."""

    detect: bool = False
    message: Text | None = Field(None, description="Left after the tone; none: hang up.")


class HttpTool(_Model):
    """Something the language model may do by HTTP."""

    name: VariableName
    description: Annotated[str, StringConstraints(min_length=1)]
    url: HttpUrl = Field(description="{{variable}} and {argument} may stand behind the host.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, str] = Field(
        default_factory=dict, description="{{variable}} and {{secret:NAME}} are filled in."
    )
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="JSON Schema of the arguments, an object.",
    )
    timeout_ms: int = Field(5000, ge=100, le=60_000)
    filler: Text = Field("One moment, please.", description="Said when the tool takes its time.")

    @field_validator("parameters")
    @classmethod
    def _check_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if problem := parameters_problem(parameters):
            raise ValueError(problem)
        return parameters

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for problem in (header_problem(name, value) for name, value in headers.items()):
            if problem:
                raise ValueError(problem)
        return headers

    @model_validator(mode="after")
    def _check_url(self) -> HttpTool:
        if problem := url_problem(self.url, self.parameters):
            raise ValueError(f"url {problem}")
        return self


class Agent(_Model):
    """A call agent."""

    schema_uri: str | None = Field(None, alias="$schema", description="For editors: `agent.schema.json`.")
    id: Annotated[str, StringConstraints(pattern=SLUG_OR_UUID, max_length=64)] = Field(
        description="A UUID, or a slug: lower-case letters, digits and hyphens."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    description: str | None = Field(None, description="For people; never spoken.")
    phone_numbers: tuple[E164, ...] = Field(
        (), description="Calls to these numbers are answered: +15551234567."
    )
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$")] = "en-US"
    tts_provider: Literal["sesame", "elevenlabs"] = "sesame"
    use_websocket_tts: bool = Field(True, description="Stream speech over a WebSocket; false: REST.")
    tts_fallbacks: tuple[Fallback, ...] = Field((), description="Tried in order when the voice fails.")
    failover: FailoverSettings = FailoverSettings()
    sesame_settings: SesameSettings = SesameSettings()
    elevenlabs_settings: ElevenLabsSettings = ElevenLabsSettings()
    stt: SttSettings = SttSettings()
    llm: LlmSettings = LlmSettings()
    system_prompt: Text | None = Field(None, description="For the language model.")
    greeting: Text | None = Field(None, description="Said first, before the start node's own words.")
    variables: dict[VariableName, str | None] = Field(
        default_factory=dict,
        description="For {{name}} in texts, with defaults; null: each call must give it.",
    )
    call_flow: CallFlow
    turns: TurnSettings = TurnSettings()
    limits: Limits = Limits()
    recording: RecordingSettings = RecordingSettings()
    voicemail: VoicemailSettings = VoicemailSettings()
    tools: tuple[HttpTool, ...] = ()

    def node(self, node_id: str) -> Node | None:
        """The node of that id, if there is one."""
        return next((node for node in self.call_flow.nodes if node.id == node_id), None)


def missing_variables(agent: Agent, given: frozenset[str] | set[str]) -> list[str]:
    """Names of the variables every call of this agent must give and this one does not."""
    return [name for name, default in agent.variables.items() if default is None and name not in given]

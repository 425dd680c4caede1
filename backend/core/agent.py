"""A call agent as its file describes it: who it is, how it speaks and hears, its call flow, its tools.

Models only, checked field by field; `backend.core.agent_checks` checks what spans fields. Refuses to know
where the file lies and how any of it is carried out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from backend.core.agent_fields import E164, SLUG_OR_UUID, AgentModel, HttpUrl, Text, Texts, VariableName
from backend.core.agent_settings import (
    ONE_MOMENT,
    ElevenLabsSettings,
    FailoverSettings,
    Fallback,
    Limits,
    LlmSettings,
    RecordingSettings,
    SesameSettings,
    SttSettings,
    TurnSettings,
    VoicemailSettings,
)
from backend.core.call_flow import CallFlow, Node
from backend.core.tool_request import header_problem, parameters_problem, url_problem
from backend.core.zones import check_zone

_MORE_FILLERS = (
    "It is taking a little longer. Please stay on the line.",
    "Thank you for waiting, I am still on it.",
)
_PATH = r"^[^.\s]+(\.[^.\s]+)*$"


class HttpTool(AgentModel):
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
    filler: Text = Field(ONE_MOMENT, description="Said when the tool takes its time.")
    more_fillers: Texts | None = Field(
        None,
        description="Said when it takes five seconds more, and five again; [] for none. If left out: two "
        "sentences of our own, in English.",
    )
    set: dict[VariableName, Annotated[str, StringConstraints(pattern=_PATH, max_length=200)]] = Field(
        default_factory=dict,
        description='Variables set from its JSON answer, and where in it they stand: "slots.0.time".',
    )

    def fillers(self, language: str) -> tuple[str, ...]:
        """What is said while it works, in order."""
        if self.more_fillers is not None:
            return (self.filler, *self.more_fillers)
        return (self.filler, *_MORE_FILLERS) if language.startswith("en") else (self.filler,)

    @field_validator("more_fillers")
    @classmethod
    def _at_most_two(cls, more_fillers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if more_fillers is not None and len(more_fillers) > 2:
            raise ValueError("are two at most: nobody waits for longer")
        return more_fillers

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


class Agent(AgentModel):
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
    timezone: Annotated[str, AfterValidator(check_zone)] | None = Field(
        None, description="Where it is at home: America/New_York. If left out: the machine's time zone."
    )
    tts_provider: Literal["sesame", "elevenlabs"] = "sesame"
    use_websocket_tts: bool = Field(True, description="Stream speech over a WebSocket; false: REST.")
    tts_fallbacks: tuple[Fallback, ...] | None = Field(
        None,
        description="Tried in order when the voice fails. Left out: all that is set up; []: none.",
    )
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

    @property
    def falls_back_on_carrier(self) -> bool:
        """Whether the carrier's own voice speaks when no other does."""
        return self.tts_fallbacks is None or "telnyx" in self.tts_fallbacks

    def node(self, node_id: str) -> Node | None:
        """The node of that id, if there is one."""
        return next((node for node in self.call_flow.nodes if node.id == node_id), None)


def missing_variables(agent: Agent, given: frozenset[str] | set[str]) -> list[str]:
    """Names of the variables every call of this agent must give and this one does not."""
    return [name for name, default in agent.variables.items() if default is None and name not in given]

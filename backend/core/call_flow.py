"""The conversation of an agent as its file has it: nodes, conditions, transitions, actions. Models only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from backend.core.agent_fields import AgentModel, HttpUrl, NodeId, Text, Texts, VariableName, one_or_more
from backend.core.answers import AnswerType
from backend.core.choices import Options, options_problem
from backend.core.matching import KeyPattern
from backend.core.patterns import pattern_problem


def _check_regex(pattern: str) -> str:
    if problem := pattern_problem(pattern):
        raise ValueError(problem)
    return pattern


def _check_keys(pattern: str) -> str:
    KeyPattern.parse(pattern)
    return pattern


class Collect(AgentModel):
    """Keep what the caller answers here in a variable."""

    name: VariableName
    type: AnswerType = Field(
        "text",
        description="`text`: the words; `digits`: the keys pressed or digits spoken; `choice`: one of "
        "`options`; the others as they say.",
    )
    options: Options = Field(
        (), description="For a `choice`: a word or phrase each, or {value, words} with other words for it."
    )
    ask: Text | None = Field(
        None, description="The question for it, where a node collects several: said when its turn comes."
    )
    reprompt: Text | None = Field(
        None, description="Said when the answer is none, instead of the node's `reprompt`."
    )
    confirm: bool | Text = Field(
        False,
        description="Read it back and ask if it is right; a text of one's own may hold the {{variable}}.",
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Collect:
        if self.type == "choice":
            if problem := options_problem(self.options):
                raise ValueError(problem)
        elif self.options:
            raise ValueError(f'options belong to "type": "choice", and this one is {self.type!r}')
        return self


class HangupAction(AgentModel):
    """End the call."""

    type: Literal["hangup"]


class TransferAction(AgentModel):
    """Hand the call to somebody else."""

    type: Literal["transfer"]
    to: Text = Field(description="+15551234567, a sip: address, or a {{variable}} that holds one.")


class DtmfAction(AgentModel):
    """Press keys on the line; `w` waits half a second."""

    type: Literal["dtmf"]
    digits: Annotated[str, StringConstraints(pattern=r"^[0-9A-D*#wW]{1,64}$")]


class WebhookAction(AgentModel):
    """Tell another system; the call does not wait for it."""

    type: Literal["webhook"]
    url: HttpUrl


class RecordAction(AgentModel):
    """Start or stop recording."""

    type: Literal["record"]
    on: bool = True


class LookupAction(AgentModel):
    """Use a tool and wait for its answer, without a language model."""

    type: Literal["lookup"]
    tool: str = Field(min_length=1, description="One of `tools`.")
    arguments: dict[VariableName, Text | bool | int | float] = Field(
        default_factory=dict, description="What it is given; {{variables}} are filled in."
    )
    failed: NodeId | None = Field(
        None, description="Where to go when there is no answer; left out: on, as with one."
    )


ActionSettings = Annotated[
    HangupAction | TransferAction | DtmfAction | WebhookAction | RecordAction | LookupAction,
    Field(discriminator="type"),
]


class When(AgentModel):
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


class Transition(AgentModel):
    """Where to go on what."""

    to: NodeId
    when: When
    set: dict[VariableName, Annotated[str, StringConstraints(max_length=1000)]] = Field(
        default_factory=dict,
        description="Variables set when taken, to these very words.",
    )


class Node(AgentModel):
    """One step of the conversation: say, act, then listen and go on."""

    id: NodeId
    say: Texts = Field((), description="Said on entering: a text or several, {{variables}} filled in.")
    prompt: Text | None = Field(None, description="What the language model is to do here.")
    listen: bool | None = Field(
        None,
        description="Wait for the caller. If left out: yes where a transition or `collect` needs them, and "
        "with a `prompt`.",
    )
    collect: Annotated[
        tuple[Collect, ...],
        BeforeValidator(
            lambda given: () if given is None else one_or_more(given),
            json_schema_input_type=Collect | list[Collect] | None,
        ),
    ] = Field((), description="What to keep of the caller's answers: a value, or several, in this order.")
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
    def opening(self) -> tuple[str, ...]:
        """What is said on entering, the question for the first value included."""
        wanted = self.wanted
        return (*self.say, wanted.ask) if wanted and wanted.ask else self.say

    @property
    def wanted(self) -> Collect | None:
        """What is asked for first of all that it collects."""
        return self.collect[0] if self.collect else None

    @property
    def onward(self) -> Transition | None:
        """Its last resort, if it has one."""
        return next((item for item in self.transitions if item.when.otherwise), None)

    @property
    def lookup(self) -> LookupAction | None:
        """What it looks up, if it does."""
        return next((action for action in self.actions if isinstance(action, LookupAction)), None)

    @property
    def listens(self) -> bool:
        """Whether the node waits for the caller once it has spoken."""
        if self.listen is not None:
            return self.listen
        if self.prompt and not self.ends_call:
            return True  # a prompt is for answering the caller, also where `otherwise` is the only way on
        return bool(self.collect) or any(item.when.needs_caller for item in self.transitions)


class CallFlow(AgentModel):
    """The conversation as a graph of nodes."""

    start: NodeId
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    transitions: tuple[Transition, ...] = Field(
        (), description="Tried at every listening node, before its own."
    )

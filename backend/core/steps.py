"""What a call flow asks for: a step to carry out, and what to ask the language model. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from backend.core.call_flow import Collect

Expects = Literal["any", "yes_no", "digits", "phone", "name", "date"]
ELSE = "otherwise"
"""The choice that stands for a node's `otherwise`."""


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the call to `to`: an E.164 number or a sip: address."""

    to: str


@dataclass(frozen=True, slots=True)
class SendDtmf:
    """Press these keys on the line."""

    digits: str


@dataclass(frozen=True, slots=True)
class CallWebhook:
    """Tell another system; nobody waits for it."""

    url: str


@dataclass(frozen=True, slots=True)
class Record:
    """Start (`on`) or stop recording."""

    on: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """Use a tool and wait for its answer; call `Flow.lookup_failed` when there is none."""

    tool: str
    arguments: str  # JSON
    fillers: tuple[str, ...]  # said meanwhile, in order


Action = Hangup | Transfer | SendDtmf | CallWebhook | Record | Lookup


@dataclass(frozen=True, slots=True)
class Listen:
    """How to wait for the caller."""

    silence_ms: int | None  # deliver `Flow.silence` after this much quiet since the agent finished
    expects: Expects  # a hint for deciding when the caller has finished
    max_digits: int | None  # keys asked for at most here; None: no key means anything
    interruptible: bool  # whether the caller may interrupt while this node speaks


@dataclass(frozen=True, slots=True)
class Choice:
    """A way on that the language model may choose."""

    intent: str
    prompt: str | None  # the language model's task there; None: the words there are written already


@dataclass(frozen=True, slots=True)
class Ask:
    """What the language model is to do now. Nothing in it but `said` and `known` comes from the caller."""

    node_id: str
    instructions: str  # the agent's own, for every node
    task: str | None  # what to do here; None: choose only, and say nothing
    said: str | None  # what the caller just said; None: the node was just entered
    choices: tuple[Choice, ...] = ()
    tools: tuple[str, ...] = ()
    leaving_tools: tuple[str, ...] = ()  # those whose use leads to another node
    collect: tuple[Collect, ...] = ()  # what is to be found out
    missing: tuple[str, ...] = ()  # the names of what is not known yet
    goes_on: bool = False  # once all of it is known, the call goes on from here
    known: tuple[tuple[str, str], ...] = ()  # what the caller gave so far
    today: date | None = None

    def is_ended_by(self, values: Mapping[str, str]) -> bool:
        """Whether with these values the task here is done, or one of them is to be read back first."""
        confirms = any(collect.confirm for collect in self.collect if collect.name in values)
        return confirms or (self.goes_on and values.keys() >= set(self.missing))

    def like(self, other: Ask) -> bool:
        """Whether the answer to the one serves for the other: but for case and punctuation, the same."""
        return replace(self, said=_bare(self.said)) == replace(other, said=_bare(other.said))


def _bare(said: str | None) -> str | None:
    if said is None:
        return None
    return " ".join("".join(char for char in said.casefold() if char.isalnum() or char.isspace()).split())


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: speak `say` in order, then perform `actions`, then listen or proceed.

    With `ask`, the language model speaks instead of `say`, and may lead elsewhere: see Flow's methods for
    its answers.
    """

    node_id: str
    say: tuple[str, ...]
    actions: tuple[Action, ...]
    listen: Listen | None  # None: call `Flow.proceed` when spoken and acted (unless the call ended)
    ends_call: bool
    ask: Ask | None = None

    @property
    def text(self) -> str:
        """`say` as one text: what is spoken in one breath."""
        return " ".join(self.say)

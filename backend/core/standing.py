"""Where a call stands in its agent's flow, and the plain moves from there: on to a node, the question again,
a goodbye, what to wait for. Pure. Refuses to know what a caller's words or keys mean.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from backend.core.actions import actions_of
from backend.core.again import last_question, reprompt_texts
from backend.core.agent import Agent
from backend.core.agent_checks import captured_names, tool_set_names
from backend.core.asking import make_ask
from backend.core.call_flow import Collect, Node, Transition
from backend.core.dictation import NOTHING, Parts
from backend.core.forms import asking_for
from backend.core.gathering import so_far_texts
from backend.core.listening import collects_freely, listen_for, wants_choice, wants_yes_no
from backend.core.read_back import Pending
from backend.core.steps import Ask, Hangup, Listen, Step
from backend.core.templates import render_all
from backend.errors import FlowError

_MAX_CAPTURED = 200  # characters of a caller's words kept in a variable


@dataclass(slots=True)
class Standing:
    """One call's place in its flow, and what there is of the caller at this node so far."""

    agent: Agent
    variables: dict[str, str]
    thinks: bool  # a language model is there
    today: date | None
    from_caller: frozenset[str]  # variables that the caller's words or a tool's answer may fill
    node: Node  # as it stands: see `missing`
    started: bool = False
    ended: bool = False
    question: str = ""  # the last one, to be asked again
    reprompts: int = 0
    hellos: int = 0
    idle: int = 0  # idle prompts since the caller last spoke
    quiet_ms: int = 0  # in a row
    keys: str = ""
    slip: bool = False
    pending: Pending | None = None
    read_backs: int = 0
    parts: Parts = NOTHING
    found: Mapping[str, str] = field(default_factory=dict)
    """What the node collects and the caller gave already, as far as it is not kept yet."""
    asked: str = ""
    """The name of the value whose question was put last, of those the node collects."""

    @classmethod
    def at_start(
        cls, agent: Agent, variables: Mapping[str, str], *, thinks: bool, today: date | None
    ) -> Standing:
        """Before the first word. Raises FlowError where there is no such node to start at."""
        defaults = {name: value or "" for name, value in agent.variables.items()}
        known = {"agent_name": agent.name, **defaults, **variables}
        told = captured_names(agent) | tool_set_names(agent)
        return cls(agent, known, thinks, today, told, node_of(agent, agent.call_flow.start))

    def fork(self) -> Standing:
        """A copy that goes its own way."""
        other = copy.copy(self)
        other.variables = dict(self.variables)
        return other

    # --- going on ------------------------------------------------------------------------------------

    @property
    def greeting(self) -> tuple[str, ...]:
        return (self.agent.greeting,) if self.agent.greeting else ()

    def follow(self, item: Transition) -> Step:
        self.variables |= item.set
        return self.enter(node_of(self.agent, item.to))

    def enter(self, node: Node, first: tuple[str, ...] = ()) -> Step:
        """Be at the node. `first`: what is said before its own words."""
        self.node, self.found = node, {}
        self.asked = node.wanted.name if node.wanted else ""
        self._begin_anew()
        if say := self.render(node.opening):
            self.question = last_question(say[-1])
        elif node.prompt:
            self.question = ""
        ask = None
        if self.thinks and node.prompt:
            # A greeting is an opening already: two in a row would leave the caller no room.
            ask = None if first and node.listens else self._ask(None)
            say = ()
        elif node.prompt and not say and not first:
            return self.unanswered()  # never a silent node, whatever is away
        opening = self.render(first)
        if node.prompt and node.listens and opening and opening[-1].rstrip().endswith("?"):
            # Asked already: without the model that would answer, its written question would be a second one.
            say, self.question = (), last_question(opening[-1])
        say = opening + say
        if first and say and not self.question:
            self.question = last_question(say[-1])
        self.ended = node.ends_call
        return replace(self._here(say), ask=ask)

    def _begin_anew(self) -> None:
        self.reprompts = self.hellos = self.read_backs = 0
        self.keys, self.pending, self.parts = "", None, NOTHING

    def want(self, missing: Sequence[Collect]) -> None:
        """Of what the node collects these are missing yet, and the first is asked for."""
        if missing and missing[0] == self.node.wanted:
            self.node = self.node.model_copy(update={"collect": tuple(missing)})
            return
        node = node_of(self.agent, self.node.id)
        self.node = asking_for(node, missing) if missing else node
        self._begin_anew()
        if missing and (say := self.render(self.node.opening)):
            self.question = last_question(say[-1])

    def ask_for(self, missing: Sequence[Collect]) -> Step:
        """Ask for the first of these, which are missing yet: in the model's words, if it speaks here."""
        self.want(missing)
        if ask := self._ask(None) if self.node.prompt else None:
            return Step(self.node.id, (), (), self.listen(), False, ask)
        wanted, is_new = missing[0], missing[0].name != self.asked
        self.asked = wanted.name
        if is_new and wanted.ask:
            return self.again(self.render((wanted.ask,)))
        return self.again((self.question,)) if self.question else self.reprompt()

    def unanswered(self) -> Step:
        """The node without the language model that was to speak for it."""
        node = self.node
        say = self.render(node.opening)
        if not say and node.listens:
            return self.reprompt()
        if not say and any(action.type == "hangup" for action in node.actions):
            say = self.render((self.agent.failover.apology,))
        return self._here(say)

    def _here(self, say: tuple[str, ...]) -> Step:
        """These words, then what the node does and waits for."""
        node = self.node
        listening = node.listens and not node.ends_call
        actions = actions_of(self.agent, node, self.variables)
        return Step(node.id, say, actions, self.listen() if listening else None, node.ends_call)

    def keep(self, name: str, value: str) -> None:
        self.variables[name] = value[:_MAX_CAPTURED].strip()

    def asking(self, said: str) -> Step | None:
        """The language model is asked what to make of this; None: it is not there, or has no say here."""
        ask = self._ask(said)
        return None if ask is None else Step(self.node.id, (), (), self.listen(), False, ask)

    def _ask(self, said: str | None) -> Ask | None:
        if not self.thinks:
            return None
        return make_ask(
            self.agent,
            self.node,
            self.transitions,
            said,
            variables=self.variables,
            from_caller=self.from_caller,
            today=self.today,
        )

    # --- staying -------------------------------------------------------------------------------------

    def not_understood(self) -> Step:
        """As `reprompt`, but that a number begun is not lost where the node has no words of its own."""
        turns = self.agent.turns
        if not self.parts.text or self.node.reprompt or self.reprompts >= turns.max_reprompts:
            return self.reprompt()
        self.reprompts += 1
        self.parts = replace(self.parts, prompted=True)
        return self.again(so_far_texts(self.agent, self.node, self.parts, self.variables))

    def reprompt(self) -> Step:
        """The question again, a few times; then a polite end."""
        self.keys, self.parts = "", NOTHING
        if self.gives_up:
            return self.goodbye(self.agent.turns.give_up)
        self.reprompts += 1
        return self.again(self.reprompt_say())

    @property
    def gives_up(self) -> bool:
        return self.reprompts >= self.agent.turns.max_reprompts

    def reprompt_say(self) -> tuple[str, ...]:
        read_back = self.pending.question if self.pending else None
        return reprompt_texts(self.agent, self.node, self.question, read_back, self.variables)

    def again(self, say: tuple[str, ...]) -> Step:
        """These words, already rendered, and on at the same node."""
        return Step(self.node.id, say, (), self.listen(), False)

    def goodbye(self, text: str) -> Step:
        self.ended = True
        return Step(self.node.id, self.render((text,)), (Hangup(),), None, True)

    def check_listening(self) -> None:
        """Raises FlowError where nobody listens to the caller."""
        if self.ended or not self.node.listens:
            state = "has ended the call" if self.ended else "does not listen"
            raise FlowError(f"node {self.node.id!r} {state}")

    def spoke(self) -> None:
        """The caller said or pressed something. Raises FlowError where nobody listens."""
        self.check_listening()
        self.idle = 0
        self.quiet_ms = 0

    # --- what there is to say and wait for -----------------------------------------------------------

    def render(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        return render_all(texts, self.variables)

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """All but `otherwise`, in the order they are tried."""
        own = tuple(item for item in self.node.transitions if not item.when.otherwise)
        return self.agent.call_flow.transitions + own

    def listen(self) -> Listen:
        return listen_for(
            self.agent,
            self.node,
            self.transitions,
            confirming=self.pending is not None,
            quiet_left_ms=self.quiet_left_ms,
        )

    @property
    def quiet_left_ms(self) -> int:
        return self.agent.limits.max_silence_seconds * 1000 - self.quiet_ms

    @property
    def wants_yes_no(self) -> bool:
        return wants_yes_no(self.node, confirming=self.pending is not None)

    @property
    def wants_choice(self) -> bool:
        return wants_choice(self.node, confirming=self.pending is not None)

    @property
    def collects_freely(self) -> bool:
        return collects_freely(self.node, confirming=self.pending is not None)


def node_of(agent: Agent, node_id: str) -> Node:
    """Raises FlowError when there is no such node."""
    node = agent.node(node_id)
    if node is None:
        raise FlowError(f"agent {agent.id!r} has no node {node_id!r}")
    return node

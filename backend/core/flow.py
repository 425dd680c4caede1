"""What the agent says and does next, from what the caller said, pressed or did not say.

What is written is tried first; the rest is left to a language model, if there is one. Where the call stands
is kept by `standing`; what a node collects is `collecting`'s and, where it comes in parts, `in_parts`'.
Pure: no clock, no sound, no sockets. Refuses to know how anything is spoken, heard or carried out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from backend.core import lookahead
from backend.core.agent import Agent
from backend.core.answers import yes_or_no
from backend.core.asking import offered
from backend.core.call_flow import Transition
from backend.core.choices import by_key
from backend.core.collecting import Way, fill, heard_back, is_plain, otherwise, take
from backend.core.conditions import Keys, ask_for, caught, settled_by, weigh_keys
from backend.core.dictation import is_filler
from backend.core.hello import is_hello, is_here
from backend.core.hold_on import bare_hold_on, is_hold_on
from backend.core.in_parts import (
    ask_for_rest,
    given_with,
    keep_keys,
    keys_stopped,
    settled_parts,
    wait_for_rest,
    way_on,
)
from backend.core.keypad import without_end
from backend.core.listening import MAX_KEYS
from backend.core.matching import tidy
from backend.core.standing import Standing, node_of
from backend.core.steps import ELSE, Step
from backend.core.tool_values import ToolVariables
from backend.errors import FlowError

_YES_NO_KEYS = {"1": "yes", "2": "no"}
_MOST_HELLOS = 3  # at a node; whoever says no more than that is not understood


class Flow:
    """One call's way through its agent's call flow. Methods are called one after another, never at once.

    `variables`: what the call brings along (see `templates.call_variables`), over the agent's defaults.
    `thinks`: a language model is there; without one, the flow goes by what is written alone.
    `today`: what "tomorrow" is reckoned from; None: dates are kept as they were said.
    Every method that gives a Step raises FlowError where the flow cannot go on; say goodbye then.
    """

    def __init__(
        self,
        agent: Agent,
        variables: Mapping[str, str],
        *,
        thinks: bool = False,
        today: date | None = None,
    ) -> None:
        self.agent = agent
        self._here = Standing.at_start(agent, variables, thinks=thinks, today=today)
        self._by_tools: tuple[tuple[str, str], ...] = ()  # in the order they were set

    @property
    def node_id(self) -> str:
        """The node the call is at."""
        return self._here.node.id

    @property
    def variables(self) -> dict[str, str]:
        """What is known, what the caller gave included; always the same mapping."""
        return self._here.variables

    @property
    def tool_variables(self) -> ToolVariables:
        """`variables` for tools, which may set some: those stay when the call is led back, as the use of a
        tool does."""
        return ToolVariables(self.variables, self._set_by_tool)

    def _set_by_tool(self, name: str, value: str) -> None:
        self.variables[name] = value
        self._by_tools += ((name, value),)

    def start(self) -> Step:
        """The greeting, then the start node."""
        here = self._here
        here.started = True
        return here.enter(here.node, first=here.greeting)

    def proceed(self) -> Step:
        """On from a node that does not listen. Raises FlowError if there is nowhere to go."""
        node = self._here.node
        if node.listens or node.ends_call or node.onward is None:
            raise FlowError(f"node {node.id!r} has nowhere to proceed to")
        return self._here.follow(node.onward)

    def lookup_failed(self) -> Step | None:
        """The node's tool gave no answer. None: the call goes on as with one."""
        lookup = self._here.node.lookup
        if lookup is None or lookup.failed is None:
            return None
        return self._here.enter(node_of(self.agent, lookup.failed))

    # --- what the caller said ------------------------------------------------------------------------

    def heard(self, text: str) -> Step:
        """The caller said this. What is written is tried first, then the language model is asked, if there is
        one; what fits nothing is asked again, a few times; then a polite end."""
        here = self._here
        prompted = here.idle > 0
        here.spoke()
        keep_keys(here)
        said = tidy(text)
        if not said:
            return here.not_understood()
        if (taken_up := self._taken_up(said, prompted)) is not None:
            return taken_up
        if here.pending is not None:
            return heard_back(here, said, here.pending)
        return self._followed(said) or here.asking(said) or otherwise(here, said) or here.not_understood()

    def _followed(self, said: str) -> Step | None:
        """What is written for these words, or a wait for more of them; None: they are something else."""
        here = self._here
        hold_on = is_hold_on(said)
        given = None if hold_on else given_with(here, said)
        if (way := way_on(here, bare_hold_on(said) if hold_on else said, given)) is not None:
            return take(here, way)
        if hold_on and (here.parts.text or not (here.thinks and here.node.prompt)):
            return wait_for_rest(here)  # the caller has the floor
        if given is not None and not given.is_whole:
            here.parts = given.parts
            return wait_for_rest(here)
        plain = None
        if given is not None or is_plain(here, said):
            plain = otherwise(here, given.parts.text if given else said)
        if plain is None and here.parts.text and is_filler(said):
            return wait_for_rest(here)
        return plain

    def _taken_up(self, said: str, prompted: bool) -> Step | None:
        """The question again, for a caller who asks whether anybody is there or, `prompted`, says that they
        are: neither answers it, and there is nothing to be sorry for."""
        here = self._here
        is_there = prompted and is_here(said)
        if not is_there and not is_hello(said):
            return None
        question = here.pending.question if here.pending else here.question
        greets = here.node.onward is not None and not question.endswith(
            "?"
        )  # "Hello, this is Mara." "Hello."
        answered_by_model = here.thinks and here.node.prompt and here.pending is None
        led_on = not is_there and any(caught(item, said) is not None for item in here.transitions)
        if not question or greets or answered_by_model or led_on or here.hellos >= _MOST_HELLOS:
            return None
        here.hellos += 1
        return here.again((question,))

    def matters(self, text: str, *, asked: bool) -> bool:
        """Whether words said while the agent went on speaking are to be followed now, rather than left be:
        they lead somewhere. `asked`: the caller had begun to hear the question of this node."""
        here, said = self._here, tidy(text)
        if not said or not here.node.listens or here.ended or is_hold_on(said):
            return False
        if any(caught(item, said) is not None for item in self.agent.call_flow.transitions):
            return True
        if not asked and (yes_or_no(said) is not None or here.pending is not None):
            return False  # an answer to something else
        if here.pending is not None:
            return yes_or_no(said) is not None
        if here.parts.text and given_with(here, said) is not None:
            return True
        return any(caught(item, said) is not None for item in here.transitions)

    # --- what might be, and might not have been ------------------------------------------------------

    def fork(self) -> Flow:
        """A copy that goes its own way: for finding out what would be, if the caller said this."""
        other = copy.copy(self)
        other._here = self._here.fork()
        return other

    def go_back(self, to: Flow) -> None:
        """Be what `to` is, a fork of before, as if nothing had happened since, but for what tools
        set; `variables` stays the same mapping, filled anew."""
        variables, self._here = self.variables, to._here.fork()
        variables.clear()
        variables.update(to.variables)
        variables.update(self._by_tools[len(to._by_tools) :])
        self._here.variables = variables

    # --- what the caller pressed ---------------------------------------------------------------------

    def digits(self, digits: str) -> Step | None:
        """The caller pressed keys: `digits` is all of them, in order, since the last Step was given.

        None: further keys may follow; wait for them, and call `digits_done` when they do not come: soon, if
        it was a `slip`. A `#` at the end that no pattern asks for says that these were all.
        """
        here = self._here
        here.spoke()
        here.keys, here.slip = digits[:MAX_KEYS], False
        transitions = here.transitions
        if here.wants_yes_no:
            key = without_end(digits)
            if key in _YES_NO_KEYS and not ask_for(transitions, key):
                return self.heard(_YES_NO_KEYS[key])
            if not any(item.when.digits for item in transitions):
                here.slip = True
                return None
        if (option := self._option_of(digits)) is not None:
            return self.heard(option)
        before = here.parts.text
        if before:  # they go on with what was said
            transitions = tuple(item for item in here.node.transitions if item.when.digits)
        verdict = weigh_keys(transitions, before + here.keys, free=here.collects_freely)
        if isinstance(verdict, Transition):
            return take(here, Way(verdict, {}, before + here.keys))
        if verdict is Keys.ALL:
            here.keys = here.keys[:-1]
            return self._settle_keys(these_are_all=True)
        here.slip = verdict is Keys.SLIP
        return None

    def _option_of(self, digits: str) -> str | None:
        """The option that these keys choose, unless they are written to lead elsewhere."""
        here, key = self._here, without_end(digits)
        if not here.wants_choice or here.node.wanted is None or ask_for(here.transitions, key):
            return None
        return by_key(here.node.wanted.options, key)

    @property
    def slip(self) -> bool:
        """Whether the keys pressed lead nowhere. What is pressed right after them belongs to them: a caller
        who leans on a key, or answers another question, is told so once."""
        return self._here.slip

    def asks_for_key(self, key: str) -> bool:
        """Whether the key, as the first one pressed, may lead on from here."""
        return ask_for(self._here.transitions, key)

    def digits_done(self) -> Step:
        """No further key came: settle on the keys pressed so far."""
        self._here.check_listening()
        return self._settle_keys(these_are_all=False)

    def _settle_keys(self, *, these_are_all: bool) -> Step:
        here = self._here
        keys, here.keys, here.slip = here.keys, "", False
        whole = here.parts.text + keys
        item = settled_by(here.node.transitions, whole) if here.parts.text else None
        if item is not None:
            return take(here, Way(item, {}, whole))
        item = settled_by(here.transitions, keys)
        if item is not None:
            return take(here, Way(item, {}, keys))
        step = otherwise(here, whole) if here.collects_freely else None
        if step is None and not these_are_all:
            step = keys_stopped(here, keys)
        return step or here.reprompt()

    # --- what the caller did not say -----------------------------------------------------------------

    def silence(self, quiet_ms: int) -> Step:
        """Quiet for `quiet_ms`: a silence transition, an idle prompt, or a polite end."""
        here, turns = self._here, self.agent.turns
        here.check_listening()
        if here.keys:
            return self.digits_done()
        here.quiet_ms += max(0, quiet_ms)
        onward = min(
            (item for item in here.node.transitions if item.when.silence_ms),
            key=lambda item: item.when.silence_ms or 0,
            default=None,
        )
        if here.parts.text and (settled := settled_parts(here)) is not None:
            return settled
        if onward:
            return here.follow(onward)
        if here.parts.text and here.quiet_left_ms > 0:
            return ask_for_rest(here)
        if here.idle < len(turns.idle_prompts) and here.quiet_left_ms > 0:
            here.idle += 1
            return here.again(here.render((turns.idle_prompts[here.idle - 1],)))
        return here.goodbye(turns.idle_goodbye)

    # --- what the language model answered ------------------------------------------------------------

    def chose(self, intent: str, said: str, *, opened: bool) -> Step:
        """It found that the caller wants this. `opened`: it has already spoken for the node this leads to."""
        here = self._here
        here.check_listening()
        ways = offered(here.node, here.transitions)
        item = next((item for item in ways if (item.when.intent or ELSE) == intent), None)
        if item is None:
            raise FlowError(f"node {here.node.id!r} has no choice {intent!r}")
        step = take(here, Way(item, {}, tidy(said)))
        return replace(step, ask=None, say=()) if opened and step.ask is not None else step

    def filled(self, values: Mapping[str, str]) -> Step | None:
        """It found these of what the node collects, by name, as `parse_answer` gives them. None: stay; they
        are kept."""
        if not self._here.node.collect:
            raise FlowError(f"node {self._here.node.id!r} collects nothing")
        return fill(self._here, values)

    def tool_used(self, name: str) -> Step | None:
        """It used a tool, with success. None: that leads nowhere."""
        item = next((item for item in self._here.transitions if item.when.tool == name), None)
        return None if item is None else self._here.follow(item)

    def spoke(self) -> None:
        """It answered in words: the caller was understood."""
        self._here.reprompts = 0

    def unanswered(self, said: str | None) -> Step:
        """It gave nothing to go by, or is away. `said`: what the caller said; None: the node was entered."""
        if said is None:
            return self._here.unanswered()
        return otherwise(self._here, tidy(said)) or self._here.reprompt()

    # --- looking ahead -------------------------------------------------------------------------------

    def likely_texts(self) -> list[str]:
        """What may be said next, likeliest first, each as the Step's `text` would be; nothing is changed.

        Left out is what hangs on words the caller has yet to say: "Thank you, {{caller_name}}."
        """
        return lookahead.likely_texts(self._here)

    def texts_at(self, node_id: str) -> list[str]:
        """What may be said at a node and right after it, by a call that is there with these variables.

        Takes the call there without a word or an action; for finding out beforehand what there is to say.
        Raises FlowError when there is no such node.
        """
        return lookahead.texts_at(self._here, node_id)

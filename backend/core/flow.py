"""What the agent says and does next, from what the caller said, pressed or did not say.

What is written is tried first; the rest is left to a language model, if there is one.
Pure: no clock, no sound, no sockets. Refuses to know how anything is spoken, heard or carried out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from backend.core.actions import actions_of
from backend.core.again import idle_text, last_question, reprompt_texts
from backend.core.agent import Agent
from backend.core.agent_checks import captured_names
from backend.core.answers import is_bare, parse_answer, yes_or_no
from backend.core.asking import make_ask, offered
from backend.core.call_flow import Collect, Node, Transition
from backend.core.conditions import Keys, caught, fitting_keys, settled_by, weigh_keys
from backend.core.dictation import NOTHING, Parts, add, is_filler
from backend.core.gathering import COMPLETE, how_far, more_of, so_far_texts, takes_parts, waiting
from backend.core.hello import is_hello, is_here
from backend.core.hold_on import bare_hold_on, is_hold_on
from backend.core.listening import MAX_KEYS, collects_freely, listen_for, wants_yes_no
from backend.core.lookahead import as_texts, says_after
from backend.core.matching import KeyMatch, tidy
from backend.core.read_back import MAX_READ_BACK, Pending, Reply, question_for, weigh_reply
from backend.core.steps import ELSE, Ask, Hangup, Listen, Step
from backend.core.templates import render_all
from backend.errors import FlowError

_YES_NO_KEYS = {"1": "yes", "2": "no"}
Given = tuple[Parts, KeyMatch]
_MOST_HELLOS = 3  # at a node; whoever says no more than that is not understood
_MAX_CAPTURED = 200  # characters of a caller's words kept in a variable


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
        self._thinks, self._today = thinks, today
        self._from_caller = captured_names(agent)
        self._pending: Pending | None = None
        defaults = {name: value or "" for name, value in agent.variables.items()}
        self.variables: dict[str, str] = {"agent_name": agent.name, **defaults, **variables}
        self._nodes = {node.id: node for node in agent.call_flow.nodes}
        self._at = self._node(agent.call_flow.start)
        self._question = ""
        self._reprompts = 0
        self._hellos = 0
        self._idle = 0
        self._quiet_ms = 0
        self._keys = ""
        self._slip = False
        self._read_backs = 0
        self._parts = NOTHING
        self._started = self._ended = False

    @property
    def node_id(self) -> str:
        """The node the call is at."""
        return self._at.id

    def start(self) -> Step:
        """The greeting, then the start node."""
        self._started = True
        return self._enter(self._at, first=self._greeting)

    def proceed(self) -> Step:
        """On from a node that does not listen. Raises FlowError if there is nowhere to go."""
        onward = self._at.onward
        if self._at.listens or self._at.ends_call or onward is None:
            raise FlowError(f"node {self._at.id!r} has nowhere to proceed to")
        return self._follow(onward)

    def heard(self, text: str) -> Step:
        """The caller said this. What is written is tried first, then the language model is asked, if there is
        one; what fits nothing is asked again, a few times; then a polite end."""
        prompted = self._idle > 0
        self._spoke()
        self._keep_keys()
        said = tidy(text)
        if not said:
            return self._not_understood()
        if (taken_up := self._taken_up(said, prompted)) is not None:
            return taken_up
        if self._pending is not None:
            return self._heard_back(said, self._pending)
        hold_on = is_hold_on(said)
        given = None if hold_on else self._given(said)
        if (step := self._led_on(bare_hold_on(said) if hold_on else said, given)) is not None:
            return step
        if hold_on and (self._parts.text or not (self._thinks and self._at.prompt)):
            return self._wait_for_rest()  # the caller has the floor
        if given is not None and not self._is_whole(given[1]):
            self._parts = given[0]
            return self._wait_for_rest()
        plain = self._otherwise(given[0].text if given else said) if given or self._is_plain(said) else None
        if plain is None and self._parts.text and is_filler(said):
            return self._wait_for_rest()
        return plain or self._asking(said) or self._otherwise(said) or self._not_understood()

    def _led_on(self, said: str, given: Given | None) -> Step | None:
        """Where a transition leads whose condition these words meet."""
        for item in self._transitions():
            own, text = item in self._at.transitions, said
            if item.when.digits and given is not None:
                if not own and self._parts.text:
                    continue  # a "zero" within a number asks for nobody
                if own and not self._is_whole(given[1]):
                    continue
                text = given[0].text if own else said
            captured = caught(item, text)
            if captured is not None:
                return self._take(item, captured, text)
        return None

    def matters(self, text: str, *, asked: bool) -> bool:
        """Whether words said while the agent went on speaking are to be followed now, rather than left be:
        they lead somewhere. `asked`: the caller had begun to hear the question of this node."""
        said = tidy(text)
        if not said or not self._at.listens or self._ended or is_hold_on(said):
            return False
        if any(caught(item, said) is not None for item in self.agent.call_flow.transitions):
            return True
        if not asked and (yes_or_no(said) is not None or self._pending is not None):
            return False  # an answer to something else
        if self._pending is not None:
            return yes_or_no(said) is not None
        if self._parts.text and self._given(said) is not None:
            return True
        return any(caught(item, said) is not None for item in self._transitions())

    def fork(self) -> Flow:
        """A copy that goes its own way: for finding out what would be, if the caller said this."""
        other = copy.copy(self)
        other.variables = dict(self.variables)
        return other

    def go_back(self, to: Flow) -> None:
        """Be what `to` is, a fork of before, as if nothing had happened since; `variables` stays the same
        mapping, filled anew."""
        variables = self.variables
        vars(self).update(vars(to))
        self.variables = variables
        variables.clear()
        variables.update(to.variables)

    def digits(self, digits: str) -> Step | None:
        """The caller pressed keys: `digits` is all of them, in order, since the last Step was given.

        None: further keys may follow; wait for them, and call `digits_done` when they do not come: soon, if
        it was a `slip`. A `#` at the end that no pattern asks for says that these were all.
        """
        self._spoke()
        self._keys, self._slip = digits[:MAX_KEYS], False
        transitions = self._transitions()
        if self._wants_yes_no() and not any(item.when.digits for item in transitions):
            if digits in _YES_NO_KEYS:
                return self.heard(_YES_NO_KEYS[digits])
            self._slip = True
            return None
        before = self._parts.text
        if before:  # they go on with what was said
            transitions = tuple(item for item in self._at.transitions if item.when.digits)
        verdict = weigh_keys(transitions, before + self._keys, free=self._collects_freely())
        if isinstance(verdict, Transition):
            return self._take(verdict, {}, before + self._keys)
        if verdict is Keys.ALL:
            self._keys = self._keys[:-1]
            return self._settle_keys(these_are_all=True)
        self._slip = verdict is Keys.SLIP
        return None

    @property
    def slip(self) -> bool:
        """Whether the keys pressed lead nowhere. What is pressed right after them belongs to them: a caller
        who leans on a key, or answers another question, is told so once."""
        return self._slip

    def digits_done(self) -> Step:
        """No further key came: settle on the keys pressed so far."""
        self._check_listening()
        return self._settle_keys(these_are_all=False)

    def _settle_keys(self, *, these_are_all: bool) -> Step:
        keys, self._keys, self._slip = self._keys, "", False
        whole = self._parts.text + keys
        item = settled_by(self._at.transitions, whole) if self._parts.text else None
        if item is not None:
            return self._take(item, {}, whole)
        item = settled_by(self._transitions(), keys)
        if item is not None:
            return self._take(item, {}, keys)
        step = self._otherwise(whole) if self._collects_freely() else None
        if step is None and keys and not these_are_all and self._goes_on(whole):
            self._parts = Parts(whole, len(keys), self._parts.turns + 1, prompted=True)
            return self._again(self._render((self.agent.turns.go_on,)))
        return step or self._reprompt()

    def silence(self, quiet_ms: int) -> Step:
        """Quiet for `quiet_ms`: a silence transition, an idle prompt, or a polite end."""
        self._check_listening()
        if self._keys:
            return self.digits_done()
        self._quiet_ms += max(0, quiet_ms)
        onward = min(
            (item for item in self._at.transitions if item.when.silence_ms),
            key=lambda item: item.when.silence_ms or 0,
            default=None,
        )
        if self._parts.text and (settled := self._settled_parts()) is not None:
            return settled
        if onward:
            return self._follow(onward)
        turns = self.agent.turns
        if self._parts.text and self._quiet_left_ms() > 0:
            if self._parts.prompted:
                return self._reprompt()
            self._parts = replace(self._parts, prompted=True)
            return self._again(self._render((turns.go_on,)))
        if self._idle < len(turns.idle_prompts) and self._quiet_left_ms() > 0:
            self._idle += 1
            return self._again(self._render((turns.idle_prompts[self._idle - 1],)))
        return self._goodbye(turns.idle_goodbye)

    # --- what the language model answered ------------------------------------------------------------

    def chose(self, intent: str, said: str, *, opened: bool) -> Step:
        """It found that the caller wants this. `opened`: it has already spoken for the node this leads to."""
        self._check_listening()
        ways = offered(self._at, self._transitions())
        wanted = (item for item in ways if (item.when.intent or ELSE) == intent)
        item = next(wanted, None)
        if item is None:
            raise FlowError(f"node {self._at.id!r} has no choice {intent!r}")
        step = self._take(item, {}, tidy(said))
        return replace(step, ask=None, say=()) if opened and step.ask is not None else step

    def filled(self, value: str) -> Step | None:
        """It found what the node collects; `value` as `parse_answer` gives it. None: stay, it is kept."""
        collect = self._at.collect
        if collect is None:
            raise FlowError(f"node {self._at.id!r} collects nothing")
        onward = self._at.onward
        if collect.confirm and self._at.listens:
            return self._read_back(Pending(value, onward, {}, ""), collect)
        self._keep(collect.name, value)
        return None if onward is None else self._follow(onward)

    def tool_used(self, name: str) -> Step | None:
        """It used a tool, with success. None: that leads nowhere."""
        item = next((item for item in self._transitions() if item.when.tool == name), None)
        return None if item is None else self._follow(item)

    def spoke(self) -> None:
        """It answered in words: the caller was understood."""
        self._reprompts = 0

    def unanswered(self, said: str | None) -> Step:
        """It gave nothing to go by, or is away. `said`: what the caller said; None: the node was entered."""
        node = self._at
        if said is not None:
            return self._otherwise(tidy(said)) or self._reprompt()
        say = self._render(node.say)
        if not say and node.listens:
            return self._reprompt()
        if not say and any(action.type == "hangup" for action in node.actions):
            say = self._render((self.agent.failover.apology,))
        actions = actions_of(node, self.variables)
        listening = node.listens and not node.ends_call
        return Step(node.id, say, actions, self._listen() if listening else None, node.ends_call)

    # --- looking ahead -------------------------------------------------------------------------------

    def likely_texts(self) -> list[str]:
        """What may be said next, likeliest first, each as the Step's `text` would be; nothing is changed.

        Left out is what hangs on words the caller has yet to say: "Thank you, {{caller_name}}."
        """
        if self._ended:
            return []
        if not self._started:
            return as_texts([self._render((*self._greeting, *self._at.say))])
        turns = self.agent.turns
        given_up = self._reprompts >= turns.max_reprompts
        again = [
            *([self._render((turns.go_on,))] if takes_parts(self._at, thinks=self._thinks) else []),
            self._render((turns.give_up,)) if given_up else self._reprompt_say(),
            self._render((idle_text(self.agent, self._idle),)),
        ]
        return as_texts(says_after(self.agent, self._at, self.variables, thinks=self._thinks, again=again))

    def texts_at(self, node_id: str) -> list[str]:
        """What may be said at a node and right after it, by a call that is there with these variables.

        Takes the call there without a word or an action; for finding out beforehand what there is to say.
        Raises FlowError when there is no such node.
        """
        self._at, self._started, self._ended = self._node(node_id), True, False
        say = self._render(self._at.say)
        self._question = last_question(say[-1]) if say else ""
        self._ended = self._at.ends_call
        turns = self.agent.turns
        later = (*turns.idle_prompts, turns.idle_goodbye, turns.give_up) if self._at.listens else ()
        texts = (
            *as_texts([say]),
            *self.likely_texts(),
            *as_texts([self._render((text,)) for text in later]),
        )
        return list(dict.fromkeys(texts))

    # --- going on ------------------------------------------------------------------------------------

    @property
    def _greeting(self) -> tuple[str, ...]:
        return (self.agent.greeting,) if self.agent.greeting else ()

    def _node(self, node_id: str) -> Node:
        try:
            return self._nodes[node_id]
        except KeyError:
            raise FlowError(f"agent {self.agent.id!r} has no node {node_id!r}") from None

    def _follow(self, item: Transition) -> Step:
        self.variables |= item.set
        return self._enter(self._node(item.to))

    def _enter(self, node: Node, first: tuple[str, ...] = ()) -> Step:
        self._at = node
        self._reprompts = self._hellos = 0
        self._keys = ""
        self._pending = None
        self._parts = NOTHING
        self._read_backs = 0
        if say := self._render(node.say):
            self._question = last_question(say[-1])
        elif node.prompt:
            self._question = ""
        ask = None
        if self._thinks and node.prompt:
            # A greeting is an opening already: two in a row would leave the caller no room.
            ask = None if first and node.listens else self._ask(None)
            say = ()
        elif node.prompt and not say and not first:
            return self.unanswered(None)  # never a silent node, whatever is away
        say = self._render(first) + say
        if first and say and not self._question:
            self._question = last_question(say[-1])
        actions = actions_of(node, self.variables)
        self._ended = node.ends_call
        listening = node.listens and not node.ends_call
        return Step(node.id, say, actions, self._listen() if listening else None, node.ends_call, ask)

    def _take(self, item: Transition, captured: Mapping[str, str], said: str) -> Step:
        """Go where the transition leads, keeping what the caller gave."""
        collect = self._at.collect
        if collect and item in self._at.transitions and not item.when.silence_ms:
            by_model = self._thinks and self._at.prompt and collect.type in ("text", "name")
            value = None if by_model else self._value(collect, item, said)
            if value and collect.confirm:
                return self._read_back(Pending(value, item, captured, ""), collect)
            if value:
                self._keep(collect.name, value)
        for name, group in captured.items():
            self._keep(name, group)
        return self._follow(item)

    def _value(self, collect: Collect, item: Transition, said: str) -> str | None:
        """What the node collects, in these words or keys; None: it is not there."""
        if collect.type == "text" or (collect.type == "date" and self._today is None):
            return said
        if collect.type == "digits":
            return fitting_keys(item, said) or None
        return parse_answer(collect.type, said, self._today or date.min)

    def _keep(self, name: str, value: str) -> None:
        self.variables[name] = value[:_MAX_CAPTURED].strip()

    def _otherwise(self, said: str) -> Step | None:
        """The node's last resort, if it has one and has what it collects."""
        onward, collect = self._at.onward, self._at.collect
        if onward is None or (collect and not self._value(collect, onward, said)):
            return None
        return self._take(onward, {}, said)

    def _is_plain(self, said: str) -> bool:
        """Whether it is what the node collects and no more, so that no model need look at it."""
        collect, onward = self._at.collect, self._at.onward
        if collect is None or onward is None or not is_bare(collect.type, said):
            return False
        return bool(self._value(collect, onward, said))

    # --- given in parts ------------------------------------------------------------------------------

    def _given(self, said: str) -> Given | None:
        """What the node collects, with this part of it; None: the words are none."""
        if not takes_parts(self._at, thinks=self._thinks) or self._at.collect is None:
            return None
        node = self._at
        given = add(self._at.collect.type, self._parts, said, lambda text: how_far(node, text))
        return None if given is None or given[1] is KeyMatch.NO else given

    def _is_whole(self, far: KeyMatch) -> bool:
        """Whether to go on with the value; what may have more to come is, where it is read back anyway."""
        confirms = self._at.collect is not None and bool(self._at.collect.confirm)
        return far is KeyMatch.FULL or (far is KeyMatch.FULL_SO_FAR and confirms)

    def _goes_on(self, text: str) -> bool:
        """Whether the text is the beginning of what the node collects."""
        if not takes_parts(self._at, thinks=self._thinks) or self._pending is not None:
            return False
        return how_far(self._at, text) in (KeyMatch.PARTIAL, KeyMatch.FULL_SO_FAR)

    def _keep_keys(self) -> None:
        """Words come after keys: these were the first part, or are forgotten."""
        keys, self._keys, self._slip = self._keys, "", False
        whole = self._parts.text + keys
        if keys and self._goes_on(whole):
            self._parts = Parts(whole, len(keys), self._parts.turns + 1)

    def _wait_for_rest(self) -> Step:
        """Say nothing, and let the caller go on."""
        listen = self._listen()
        if self._parts.text:
            listen = waiting(listen, how_far(self._at, self._parts.text), self._parts)
        return Step(self._at.id, (), (), listen, False)

    def _settled_parts(self) -> Step | None:
        """Nothing more came: on, if what there is may be all of it."""
        text = self._parts.text
        if how_far(self._at, text) not in COMPLETE:
            return None
        for item in self._at.transitions:
            if item.when.digits and caught(item, text) is not None:
                return self._take(item, {}, text)
        return self._otherwise(text)

    # --- reading back --------------------------------------------------------------------------------

    def _read_back(self, pending: Pending, collect: Collect) -> Step:
        if self._read_backs >= MAX_READ_BACK:
            return self._goodbye(self.agent.turns.give_up)
        question = question_for(collect, pending.value, self.variables)
        self._pending = replace(pending, question=question)
        self._read_backs += 1
        self._keys, self._parts = "", NOTHING
        return self._again((question,))

    def _heard_back(self, said: str, pending: Pending) -> Step:
        whole = more_of(self._at, pending.value, said) if takes_parts(self._at, thinks=False) else None
        for item in self.agent.call_flow.transitions:
            if whole is not None and item.when.digits:
                continue  # a "zero" that goes on with a number asks for nobody
            if (captured := caught(item, said)) is not None:
                return self._take(item, captured, said)
        collect = self._at.collect
        assert collect is not None
        if whole is not None:
            return self._read_back(replace(pending, value=whole), collect)
        reply = weigh_reply(self._at, collect, pending.value, said, self._today or date.min)
        if reply is Reply.RIGHT:
            return self._confirmed(pending, said)
        if not isinstance(reply, Reply):
            return self._read_back(replace(pending, value=reply), collect)
        if reply is Reply.WRONG:
            self._pending = None
            return (self._asking(said) if self._at.prompt else None) or self._reprompt()
        return self._reprompt()

    def _confirmed(self, pending: Pending, said: str) -> Step:
        self._pending = None
        assert self._at.collect is not None
        self._keep(self._at.collect.name, pending.value)
        for name, value in pending.captured.items():
            self._keep(name, value)
        if pending.onward is not None:
            return self._follow(pending.onward)
        return self._asking(said) or self._reprompt()

    # --- asking the language model -------------------------------------------------------------------

    def _asking(self, said: str) -> Step | None:
        ask = self._ask(said)
        return None if ask is None else Step(self._at.id, (), (), self._listen(), False, ask)

    def _ask(self, said: str | None) -> Ask | None:
        if not self._thinks:
            return None
        return make_ask(
            self.agent,
            self._at,
            self._transitions(),
            said,
            variables=self.variables,
            from_caller=self._from_caller,
            today=self._today,
        )

    # --- not understood ------------------------------------------------------------------------------

    def _taken_up(self, said: str, prompted: bool) -> Step | None:
        """The question again, for a caller who asks whether anybody is there or, `prompted`, says that they
        are: neither answers it, and there is nothing to be sorry for."""
        here = prompted and is_here(said)
        if not here and not is_hello(said):
            return None
        question = self._pending.question if self._pending else self._question
        greets = self._at.onward is not None and not question.endswith("?")  # "Hello, this is Mara." "Hello."
        answered_by_model = self._thinks and self._at.prompt and self._pending is None
        led_on = not here and any(caught(item, said) is not None for item in self._transitions())
        if not question or greets or answered_by_model or led_on or self._hellos >= _MOST_HELLOS:
            return None
        self._hellos += 1
        return self._again((question,))

    def _not_understood(self) -> Step:
        """As `_reprompt`, but that a number begun is not lost where the node has no words of its own."""
        turns = self.agent.turns
        if not self._parts.text or self._at.reprompt or self._reprompts >= turns.max_reprompts:
            return self._reprompt()
        self._reprompts += 1
        self._parts = replace(self._parts, prompted=True)
        return self._again(so_far_texts(self.agent, self._at, self._parts, self.variables))

    def _reprompt(self) -> Step:
        turns = self.agent.turns
        self._keys, self._parts = "", NOTHING
        if self._reprompts >= turns.max_reprompts:
            return self._goodbye(turns.give_up)
        self._reprompts += 1
        return self._again(self._reprompt_say())

    def _reprompt_say(self) -> tuple[str, ...]:
        read_back = self._pending.question if self._pending else None
        return reprompt_texts(self.agent, self._at, self._question, read_back, self.variables)

    def _again(self, say: tuple[str, ...]) -> Step:
        return Step(self._at.id, say, (), self._listen(), False)

    def _goodbye(self, text: str) -> Step:
        self._ended = True
        return Step(self._at.id, self._render((text,)), (Hangup(),), None, True)

    def _check_listening(self) -> None:
        if self._ended or not self._at.listens:
            state = "has ended the call" if self._ended else "does not listen"
            raise FlowError(f"node {self._at.id!r} {state}")

    def _spoke(self) -> None:
        self._check_listening()
        self._idle = 0
        self._quiet_ms = 0

    # --- what there is to say, do and wait for -------------------------------------------------------

    def _render(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        return render_all(texts, self.variables)

    def _transitions(self) -> tuple[Transition, ...]:
        """All but `otherwise`, in the order they are tried."""
        own = tuple(item for item in self._at.transitions if not item.when.otherwise)
        return self.agent.call_flow.transitions + own

    def _listen(self) -> Listen:
        return listen_for(
            self.agent,
            self._at,
            self._transitions(),
            confirming=self._pending is not None,
            quiet_left_ms=self._quiet_left_ms(),
        )

    def _quiet_left_ms(self) -> int:
        return self.agent.limits.max_silence_seconds * 1000 - self._quiet_ms

    def _wants_yes_no(self) -> bool:
        return wants_yes_no(self._at, confirming=self._pending is not None)

    def _collects_freely(self) -> bool:
        return collects_freely(self._at, confirming=self._pending is not None)

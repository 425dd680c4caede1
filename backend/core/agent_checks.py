"""What is wrong with an agent, or odd, when its fields are seen together.

Every problem names its field and what to do. Refuses to know about JSON and files.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from backend.core.agent import Agent
from backend.core.call_flow import Collect, LookupAction, Node, TransferAction, Transition
from backend.core.matching import words
from backend.core.refused_options import refused_options
from backend.core.templates import BUILTIN_VARIABLES, variable_names
from backend.core.tool_values import plain_path

OWN_TOOLS = frozenset(("go_to", "fill"))
"""What the language model leads a call on by, and gives what a node collects: see `backend.core.brain`."""
Problem = tuple[str, str]  # (field path, reason)
_PHONE_OR_SIP = re.compile(r"\+[1-9][0-9]{6,14}|sips?:[^\s@]+@[^\s@]+")


def transfer_target_problem(target: str) -> str | None:
    """Why a call cannot be transferred there; None when it can."""
    if _PHONE_OR_SIP.fullmatch(target):
        return None
    return f"{target!r} is neither a number such as +15551234567 nor a sip: address"


def captured_names(agent: Agent) -> frozenset[str]:
    """Variables that a caller's words or keys may fill."""
    names = {collect.name for node in agent.call_flow.nodes for collect in node.collect}
    for _, item in _transitions(agent):
        if item.when.regex:
            names |= set(re.compile(item.when.regex).groupindex)
    return frozenset(names)


def tool_set_names(agent: Agent) -> frozenset[str]:
    """Variables that a tool's answer may fill."""
    return frozenset(name for tool in agent.tools for name in tool.set)


# --- what spans fields -------------------------------------------------------------------------------


def find_errors(agent: Agent) -> Iterator[Problem]:
    """What makes the agent unusable."""
    yield from _voice_errors(agent)
    yield from _list_errors(agent)
    yield from _graph_errors(agent)
    for at, node in enumerate(agent.call_flow.nodes):
        yield from _node_errors(agent, f"call_flow.nodes[{at}]", node)
    yield from _condition_errors(agent)
    yield from _variable_errors(agent)


def _voice_errors(agent: Agent) -> Iterator[Problem]:
    if agent.failover.transfer_to is not None:
        yield from _transfer_errors(agent, "failover.transfer_to", agent.failover.transfer_to)
    if not agent.language.startswith("en"):
        english_only = f"'local' hears English only, and language is {agent.language!r}"
        if agent.stt.provider == "local":
            yield "stt.provider", english_only
        if "local" in agent.stt.fallbacks:
            yield f"stt.fallbacks[{agent.stt.fallbacks.index('local')}]", english_only
    if agent.stt.base_url is not None and "openai" not in (agent.stt.provider, *agent.stt.fallbacks):
        yield "stt.base_url", "is for provider or fallback 'openai'; leave it out"


def _list_errors(agent: Agent) -> Iterator[Problem]:
    lists: dict[str, list[str]] = {
        "phone_numbers": list(agent.phone_numbers),
        "tts_fallbacks": list(agent.tts_fallbacks or ()),
        "stt.fallbacks": list(agent.stt.fallbacks),
        "call_flow.nodes": [node.id for node in agent.call_flow.nodes],
        "tools": [tool.name for tool in agent.tools],
    }
    for field, items in lists.items():
        for item, count in Counter(items).items():
            if count > 1:
                where = [f"{field}[{at}]" for at, other in enumerate(items) if other == item]
                yield where[1], f"{item!r} stands already at {where[0]}"


def _graph_errors(agent: Agent) -> Iterator[Problem]:
    known = {node.id for node in agent.call_flow.nodes}
    if agent.call_flow.start not in known:
        yield "call_flow.start", f"no node {agent.call_flow.start!r}{nearest(agent.call_flow.start, known)}"
    for field, item in _transitions(agent):
        if item.to not in known:
            yield f"{field}.to", f"no node {item.to!r}{nearest(item.to, known)}"
    for at, node in enumerate(agent.call_flow.nodes):
        for position, action in enumerate(node.actions):
            if isinstance(action, LookupAction):
                yield from _lookup_errors(agent, f"call_flow.nodes[{at}].actions[{position}]", node, action)
    yield from _endless_cycles(agent)


def _lookup_errors(agent: Agent, field: str, node: Node, action: LookupAction) -> Iterator[Problem]:
    nodes = {other.id for other in agent.call_flow.nodes}
    if action.failed is not None and action.failed not in nodes:
        yield f"{field}.failed", f"no node {action.failed!r}{nearest(action.failed, nodes)}"
    if action is not node.lookup:
        yield field, "is a second lookup: give it a node of its own"
    if node.listens or node.prompt:
        yield field, f"node {node.id!r} listens or has a prompt: look up in a node that does neither"
    tools = {tool.name: tool for tool in agent.tools}
    tool = tools.get(action.tool)
    if tool is None:
        yield f"{field}.tool", f"no tool {action.tool!r}{nearest(action.tool, tools)}"
        return
    known = tool.parameters.get("properties") or {}
    for name in tool.parameters.get("required") or ():
        if name not in action.arguments:
            yield f"{field}.arguments", f"lacks {name!r}, which the tool {tool.name!r} requires"
    for name in action.arguments:
        if name not in known:
            yield f"{field}.arguments", f"{name!r} is no parameter of {tool.name!r}{nearest(name, known)}"


def _endless_cycles(agent: Agent) -> Iterator[Problem]:
    """Rings of nodes that neither listen nor end the call: they would talk for ever."""
    onward = {
        node.id: _left_by_itself(node)
        for node in agent.call_flow.nodes
        if not node.listens and not node.ends_call
    }
    reported: set[str] = set()
    for first in onward:
        ring = _ring(first, onward, [], reported)
        if ring:
            here = ring[0]
            at = next(at for at, node in enumerate(agent.call_flow.nodes) if node.id == here)
            yield (
                f"call_flow.nodes[{at}]",
                f"{' → '.join([*ring, ring[0]])} goes round without listening or ending the call",
            )


def _ring(here: str, onward: Mapping[str, list[str]], way: list[str], done: set[str]) -> list[str]:
    """The first ring of nodes that the way leads into; empty where there is none."""
    if here in way:
        return way[way.index(here) :]
    if here not in onward or here in done:
        return []
    found = next((ring for to in onward[here] if (ring := _ring(to, onward, [*way, here], done))), [])
    done.add(here)
    return found


def _left_by_itself(node: Node) -> list[str]:
    """Where the node leads without the caller."""
    ways = (_otherwise(node), node.lookup.failed if node.lookup else None)
    return [to for to in ways if to is not None]


def _otherwise(node: Node) -> str | None:
    return next((item.to for item in node.transitions if item.when.otherwise), None)


def _node_errors(agent: Agent, field: str, node: Node) -> Iterator[Problem]:
    ends = [at for at, action in enumerate(node.actions) if action.type in ("hangup", "transfer")]
    if ends and ends[0] < len(node.actions) - 1:
        yield (
            f"{field}.actions[{ends[0] + 1}]",
            f"is never done: {node.actions[ends[0]].type} ends the call first",
        )
    if node.ends_call:
        if node.transitions or node.collect or node.listen:
            yield field, f"node {node.id!r} ends the call: it can have no transitions, collect or listen"
    elif not node.listens:
        if node.interruptible:
            yield f"{field}.interruptible", "only a node that listens can be interrupted"
        heard = [at for at, item in enumerate(node.transitions) if item.when.needs_caller]
        if heard:
            yield f"{field}.transitions[{heard[0]}].when", "needs the caller, and listen is false"
        if node.collect:
            yield f"{field}.collect", "needs the caller, and listen is false"
        if _otherwise(node) is None and not heard:
            yield (
                field,
                f"node {node.id!r} leads nowhere: give it a transition (to … when otherwise), "
                "a hangup or transfer action, or listen",
            )
    elif not node.transitions and not agent.call_flow.transitions:
        yield f"{field}.transitions", f"node {node.id!r} listens, and nothing the caller says leads on"
    yield from _form_errors(field, node)
    last = [at for at, item in enumerate(node.transitions) if item.when.otherwise]
    if last and last[0] < len(node.transitions) - 1:
        yield f"{field}.transitions[{last[0]}]", "otherwise is the last resort: put it last"
    for at, action in enumerate(node.actions):
        if isinstance(action, TransferAction):
            yield from _transfer_errors(agent, f"{field}.actions[{at}].to", action.to)


def _form_errors(field: str, node: Node) -> Iterator[Problem]:
    """What is wrong with a node that collects several values."""
    names = Counter(collect.name for collect in node.collect)
    for at, collect in enumerate(node.collect):
        if names[collect.name] > 1 and collect != node.collect[0]:
            yield f"{field}.collect[{at}].name", f"{collect.name!r} is collected twice here"
        if at and collect.ask is None:
            yield (
                f"{field}.collect[{at}].ask",
                "is missing: what the caller is asked, when the turn of this value comes",
            )
    if len(node.collect) > 1 and _otherwise(node) is None:
        yield (
            f"{field}.transitions",
            f"node {node.id!r} collects several values: say where to go once all are there, by a transition "
            "(to … when otherwise)",
        )


def collect_fields(node: Node) -> Iterator[tuple[str, Collect]]:
    """What a node collects, and where that stands in it."""
    for at, collect in enumerate(node.collect):
        yield ("collect" if len(node.collect) == 1 else f"collect[{at}]"), collect


def _transfer_errors(agent: Agent, field: str, to: str) -> Iterator[Problem]:
    names = variable_names(to)
    if not names:
        problem = transfer_target_problem(to)
        if problem:
            yield field, problem
    for name in names:
        if name in captured_names(agent):
            # Else a caller could have any number dialled at our cost.
            yield field, f"{name!r} is filled by the caller's words or keys, which must not choose the number"
        elif name in tool_set_names(agent):
            # Tools are asked with the caller's words, and answer with what others wrote.
            yield field, f"{name!r} is set by a tool's answer, which must not choose the number"


def _condition_errors(agent: Agent) -> Iterator[Problem]:
    tools = {tool.name for tool in agent.tools}
    no_llm = agent.llm.provider == "none"
    for field, item in _transitions(agent):
        field, when = f"{field}.when", item.when
        if when.intent and no_llm:
            yield f"{field}.intent", _NEEDS_LLM
        if when.tool and no_llm:
            yield f"{field}.tool", _NEEDS_LLM
        elif when.tool and when.tool not in tools:
            yield f"{field}.tool", f"no tool {when.tool!r}{nearest(when.tool, tools)}"
    for at, tool in enumerate(agent.tools):
        if tool.name in OWN_TOOLS:
            yield (
                f"tools[{at}].name",
                f"{tool.name!r} is what the call flow's own tool is called; choose another",
            )
        for field, text in (("filler", tool.filler), *(("more_fillers", t) for t in tool.more_fillers or ())):
            if variable_names(text):
                yield f"tools[{at}].{field}", "is said as it is written: it can hold no {{variable}}"
    if variable_names(agent.llm.filler or ""):
        yield "llm.filler", "is said as it is written: it can hold no {{variable}}"
    for at, item in enumerate(agent.call_flow.transitions):
        if item.when.otherwise or item.when.silence_ms:
            yield (
                f"call_flow.transitions[{at}].when",
                "otherwise and silence_ms belong to a node's transitions",
            )
    for at, node in enumerate(agent.call_flow.nodes):
        if node.prompt and no_llm:
            yield f"call_flow.nodes[{at}].prompt", _NEEDS_LLM
        for position, name in enumerate(node.tools):
            if name not in tools:
                yield f"call_flow.nodes[{at}].tools[{position}]", f"no tool {name!r}{nearest(name, tools)}"


_NEEDS_LLM = 'needs a language model, and llm.provider is "none"'


def _variable_errors(agent: Agent) -> Iterator[Problem]:
    captured = captured_names(agent) | {name for _, item in _transitions(agent) for name in item.set}
    for field, name in _set_names(agent):
        if name in BUILTIN_VARIABLES:
            whom = "a tool" if field.startswith("tools") else "a call flow"
            yield field, f"{name!r} is built in and cannot be set by {whom}; choose another name"
    known = captured | tool_set_names(agent) | BUILTIN_VARIABLES.keys() | agent.variables.keys()
    for field, text in _texts(agent):
        for name in variable_names(text):
            if name not in known:
                yield (
                    field,
                    f"nothing ever sets {{{{{name}}}}}{nearest(name, known)} "
                    "(declare what a call brings along under variables)",
                )


def _set_names(agent: Agent) -> Iterator[tuple[str, str]]:
    """Every variable the agent fills, and where."""
    for at, node in enumerate(agent.call_flow.nodes):
        for where, collect in collect_fields(node):
            yield f"call_flow.nodes[{at}].{where}.name", collect.name
    for field, item in _transitions(agent):
        yield from ((f"{field}.set", name) for name in item.set)
        if item.when.regex:
            yield from ((f"{field}.when.regex", name) for name in re.compile(item.when.regex).groupindex)
    for at, tool in enumerate(agent.tools):
        yield from ((f"tools[{at}].set", name) for name in tool.set)


def find_warnings(agent: Agent) -> Iterator[Problem]:
    """What is odd, yet harms no call."""
    reached: set[str] = set()
    waiting = [agent.call_flow.start]
    while waiting:
        node = agent.node(waiting.pop())
        if node is None or node.id in reached:
            continue
        reached.add(node.id)
        everywhere = agent.call_flow.transitions if node.listens else ()
        waiting += [item.to for item in (*node.transitions, *everywhere)]
        waiting += [node.lookup.failed] if node.lookup and node.lookup.failed else []
    for at, node in enumerate(agent.call_flow.nodes):
        if node.id not in reached:
            yield f"call_flow.nodes[{at}]", f"node {node.id!r} is never reached"
    for at, node in enumerate(agent.call_flow.nodes):
        if node.prompt and not node.say and not (node.id == agent.call_flow.start and agent.greeting):
            yield f"call_flow.nodes[{at}].prompt", "has no say beside it: what is said when the model is away"
    for field, item in _transitions(agent):
        for keyword in item.when.keywords or ():
            if not words(keyword):
                yield f"{field}.when.keywords", f"{keyword!r} holds no word, and is never heard"
    for at, tool in enumerate(agent.tools):
        for name, path in tool.set.items():
            if path.startswith("$") or "[" in path:
                yield f"tools[{at}].set.{name}", _PATH.format(path, plain_path(path))
    yield from refused_options(agent)
    start = agent.node(agent.call_flow.start)
    if start and start.listens and not (agent.greeting or start.say or start.prompt):
        yield "greeting", "is missing, and the start node says nothing: the caller hears silence"
    failover = agent.failover
    if failover.hedge_ms is not None and failover.hedge_ms >= failover.first_audio_ms:
        yield "failover.hedge_ms", f"is never reached: first_audio_ms is {failover.first_audio_ms}"
    if not any(node.ends_call for node in agent.call_flow.nodes if node.id in reached):
        yield "call_flow", "no node ends the call: only the caller or a limit can"


_PATH = (
    "a path is names and positions with dots between them, without $ and brackets: instead of {!r} write {!r}"
)

# --- walking an agent --------------------------------------------------------------------------------


def _transitions(agent: Agent) -> Iterator[tuple[str, Transition]]:
    for at, node in enumerate(agent.call_flow.nodes):
        for position, item in enumerate(node.transitions):
            yield f"call_flow.nodes[{at}].transitions[{position}]", item
    for position, item in enumerate(agent.call_flow.transitions):
        yield f"call_flow.transitions[{position}]", item


def _texts(agent: Agent) -> Iterator[tuple[str, str]]:
    """Every text variables may stand in."""
    single: Mapping[str, str | None] = {
        "system_prompt": agent.system_prompt,
        "greeting": agent.greeting,
        "turns.reprompt": agent.turns.reprompt,
        "turns.idle_goodbye": agent.turns.idle_goodbye,
        "turns.go_on": agent.turns.go_on,
        "turns.give_up": agent.turns.give_up,
        "voicemail.message": agent.voicemail.message,
        "limits.goodbye": agent.limits.goodbye,
        "failover.apology": agent.failover.apology,
        "failover.transfer_to": agent.failover.transfer_to,
    }
    yield from ((field, text) for field, text in single.items() if text)
    yield from ((f"turns.idle_prompts[{at}]", text) for at, text in enumerate(agent.turns.idle_prompts))
    for at, node in enumerate(agent.call_flow.nodes):
        field = f"call_flow.nodes[{at}]"
        yield from ((f"{field}.say[{position}]", text) for position, text in enumerate(node.say))
        yield from ((f"{field}.prompt", text) for text in (node.prompt,) if text)
        yield from ((f"{field}.reprompt", text) for text in (node.reprompt,) if text)
        for where, collect in collect_fields(node):
            texts = {"ask": collect.ask, "reprompt": collect.reprompt, "confirm": collect.confirm}
            yield from (
                (f"{field}.{where}.{name}", text) for name, text in texts.items() if isinstance(text, str)
            )
        for position, action in enumerate(node.actions):
            if isinstance(action, TransferAction):
                yield f"{field}.actions[{position}].to", action.to
            if isinstance(action, LookupAction):
                for name, value in action.arguments.items():
                    if isinstance(value, str):
                        yield f"{field}.actions[{position}].arguments.{name}", value


def nearest(name: str, known: Collection[str]) -> str:
    """ "; did you mean …?", or what is known; nothing if nothing is."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""

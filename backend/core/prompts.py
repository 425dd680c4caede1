"""Which of an agent's words are known before anybody calls, and under which key their sound is kept. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.sentences import pieces
from backend.core.speech import Piece, RouteName
from backend.core.templates import render, variable_names

_FORMAT = "1"  # of the sound under a key: another number, and all of it is made anew
_SAME_VOICE: dict[RouteName, str] = {
    "sesame_ws": "sesame", "sesame_rest": "sesame", "elevenlabs_rest": "elevenlabs",
}  # fmt: skip
# Two callers no agent will have. What reads the same for both is the same for everybody.
_CALLERS = ("Alexander 12", "Benjamin 345")


@dataclass(frozen=True, slots=True)
class StaticPiece:
    """A piece that is the same in every call, and what is always said right before it, or ""."""

    piece: Piece
    before: str


def voice_of(agent: Agent, route: RouteName, voice_id: str = "") -> str | None:
    """Who speaks when the agent speaks by this route, and how, as one line; None: it gives us no sound.

    Equal for routes that lead to the same voice, whatever server answers. `voice_id`: the route's, which may
    be that of the settings.
    """
    if route == "telnyx":
        return None
    settings: dict[str, object]
    if route.startswith("elevenlabs"):
        given = agent.elevenlabs_settings.model_dump(exclude_none=True)
        settings = given | ({"voice_id": voice_id} if voice_id else {}) | {"language": agent.language}
    else:
        # Chunks are cut differently, never spoken differently.
        settings = agent.sesame_settings.model_dump(exclude_none=True, exclude={"chunk_samples"})
    return f"{_SAME_VOICE.get(route, route)} {json.dumps(settings, sort_keys=True, ensure_ascii=False)}"


def prompt_key(voice: str, spoken: str) -> str:
    """The name under which this voice's sound of these words is kept: 64 hexadecimal digits."""
    return hashlib.sha256(f"{_FORMAT}\n{voice}\n{spoken}".encode()).hexdigest()


@lru_cache(maxsize=4_096)  # what may be said next is asked at every step, and mostly the same
def cut(text: str, language: str) -> Sequence[Piece]:
    """A text in the pieces in which it is spoken."""
    return tuple(pieces(text, language))


def static_pieces(agent: Agent, also: Iterable[str] = ()) -> list[StaticPiece]:
    """Everything the agent will say in the same words whoever calls, in the order it is first wanted.

    A text with a caller's name in it gives those of its pieces that do not hold the name. `also`: further
    texts that are said in every agent's calls.
    """
    also = tuple(also)
    spoken, otherwise = (_texts(agent, caller, also) for caller in _CALLERS)
    same = {piece.spoken for text in otherwise for piece in text}
    static: dict[str, StaticPiece] = {}
    for text in spoken:
        before = ""
        for piece in text:
            known = piece.spoken if piece.spoken in same else ""
            if known:
                static.setdefault(known, StaticPiece(piece, before))
            before = known
    return list(static.values())


def own_texts(agent: Agent, templates: Iterable[str]) -> list[str]:
    """The texts with what the agent itself gives for their variables."""
    variables = Flow(agent, {}).variables
    return [render(template, variables) for template in templates]


def _texts(agent: Agent, caller: str, also: tuple[str, ...]) -> list[Sequence[Piece]]:
    """All texts of a call whose every variable holds `caller`, but for those the agent itself gives."""
    variables = dict.fromkeys(_open_variables(agent), caller)
    flow = Flow(agent, variables)
    texts = flow.likely_texts()  # the greeting
    for node in agent.call_flow.nodes:
        texts += Flow(agent, variables).texts_at(node.id)
    texts += [render(text, flow.variables) for text in (agent.limits.goodbye, agent.failover.apology, *also)]
    texts += [text for tool in agent.tools for text in tool.fillers(agent.language)]
    texts += [text for text in (agent.llm.bridge(agent.language),) if text]
    return [cut(text, agent.language) for text in dict.fromkeys(texts)]


def _open_variables(agent: Agent) -> set[str]:
    """Variables whose value a call brings."""
    turns = agent.turns
    templates = [
        agent.greeting or "",
        agent.limits.goodbye,
        agent.failover.apology,
        *turns.idle_prompts,
        turns.idle_goodbye,
        turns.reprompt,
        turns.go_on,
        turns.give_up,
    ]
    for node in agent.call_flow.nodes:
        templates += [*node.say, node.reprompt or ""]
    given = {name for name, default in agent.variables.items() if default is not None} | {"agent_name"}
    return {name for template in templates for name in variable_names(template)} - given

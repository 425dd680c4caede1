"""Values that a caller gives in parts: when one is whole, how long the rest is waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from backend.core.agent import Agent
from backend.core.answers import parse_answer, say_back, yes_or_no
from backend.core.call_flow import Node
from backend.core.dictation import NOTHING, Parts, add, gathers, phone_so_far
from backend.core.matching import KeyMatch, KeyPattern, dictated_figures
from backend.core.steps import Listen
from backend.core.templates import render_all

REST_MS = 2500  # quiet after a part before the caller is asked to go on
HELD_MS = 1500  # quiet after what may be all of it
_BEST_FIRST = (KeyMatch.FULL, KeyMatch.FULL_SO_FAR, KeyMatch.PARTIAL)
COMPLETE = (KeyMatch.FULL, KeyMatch.FULL_SO_FAR)


def takes_parts(node: Node, *, thinks: bool) -> bool:
    """Whether what the node collects may come over several turns. Names are left to a language model."""
    collect = node.wanted
    if collect is None or not gathers(collect.type) or (collect.type == "name" and thinks and node.prompt):
        return False
    return node.onward is not None or bool(_patterns(node))


def how_far(node: Node, text: str) -> KeyMatch:
    """How far the text goes as what the node collects; see `dictation.add`."""
    collect = node.wanted
    if collect is None or not text:
        return KeyMatch.NO
    if collect.type == "email":
        address = parse_answer("email", text, date.min)
        if address is None:
            return KeyMatch.PARTIAL
        return KeyMatch.FULL_SO_FAR if address.endswith(".co") else KeyMatch.FULL
    if collect.type == "name":
        return KeyMatch.FULL_SO_FAR
    matches = {pattern.match(text.removeprefix("+")) for pattern in _patterns(node)}
    best = next((match for match in _BEST_FIRST if match in matches), KeyMatch.NO)
    if best is not KeyMatch.NO or node.onward is None:
        return best
    return phone_so_far(text) if collect.type == "phone" else KeyMatch.FULL


def waiting(listen: Listen, far: KeyMatch, parts: Parts) -> Listen:
    """How to wait for the next part."""
    if parts.prompted and far is KeyMatch.PARTIAL:
        return listen
    quiet_ms = HELD_MS if far in COMPLETE else REST_MS
    return replace(listen, silence_ms=min(quiet_ms, listen.silence_ms or quiet_ms))


def so_far_texts(agent: Agent, node: Node, parts: Parts, variables: Mapping[str, str]) -> tuple[str, ...]:
    """What a caller hears who was not understood in the middle of a number."""
    texts = [agent.turns.reprompt]
    wanted = node.wanted
    if agent.language.startswith("en") and wanted and wanted.type in ("digits", "phone"):
        texts.append(f"So far I have {say_back(wanted.type, parts.text)}.")
    return render_all((*texts, agent.turns.go_on), variables)


def more_of(node: Node, value: str, said: str) -> str | None:
    """The value that was read back, with what the caller went on to say; None: that is no more of it."""
    assert node.wanted is not None
    answer = yes_or_no(said)
    if answer == "no" or (answer == "yes" and len(dictated_figures(said)) < 2):
        return None
    kind = node.wanted.type
    before = how_far(node, value)
    added = add(kind, replace(NOTHING, text=value), said, lambda text: how_far(node, text))
    if added is None or added[1] not in COMPLETE:
        return None
    text = added[0].text
    goes_on = text.startswith(value) and len(text) > len(value)
    if kind == "email":
        goes_on = goes_on and said.casefold().startswith(("dot ", "."))
    elif kind == "phone":
        goes_on = goes_on and (before is KeyMatch.FULL_SO_FAR or ("x" in text and "x" not in value))
    elif kind == "digits" and not _patterns(node):
        goes_on = goes_on and not _alike(value, text.removeprefix(value))
    return parse_answer(kind, text, date.min) if goes_on else None


def _alike(one: str, other: str) -> bool:
    """Whether the one may be meant to put the other right."""
    same = sum(a == b for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and 2 * same >= len(one)


def _patterns(node: Node) -> list[KeyPattern]:
    return [KeyPattern.parse(item.when.digits) for item in node.transitions if item.when.digits]

"""`{{secret:NAME}}` in agent files: keys that stand in the environment, and are named in AGENT_SECRETS.

Only whole places of a file may name one: headers of tools, and the language model's keys. Texts that are
spoken or go to a model cannot: there it is no variable. Refuses to know where values come from.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from backend.core.agent import Agent

MASK = "[secret]"
_SLOT = re.compile(r"\{\{\s*secret:([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_SHORTEST = 4  # shorter ones are found in innocent words
_LEAST_BEGINNING = 8  # likewise, where a text may have been cut off within one


def secret_names(text: str) -> list[str]:
    """The secrets a text names."""
    return _SLOT.findall(text)


def secret_of(text: str | None, secrets: Mapping[str, str]) -> str | None:
    """The value of a field that is nothing but `{{secret:NAME}}`; None: left out, or not set."""
    names = secret_names(text or "")
    return secrets.get(names[0]) if names else None


def unset_secrets(agent: Agent, secrets: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each secret the agent names and the environment does not hold."""
    named = [("llm.api_key", agent.llm.api_key), ("llm.fallback_api_key", agent.llm.fallback_api_key)]
    for at, tool in enumerate(agent.tools):
        named += [(f"tools[{at}].headers.{name}", value) for name, value in tool.headers.items()]
    for field, text in named:
        for name in secret_names(text or ""):
            if not secrets.get(name):
                yield f"agent {agent.id}: {field}: set {name}, and name it in AGENT_SECRETS"


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """The text without any of the values, as they are or as servers commonly write them; nor the beginning of
    one at its end, where it was cut off."""
    for value in sorted(secrets.values(), key=len, reverse=True):
        if len(value) >= _SHORTEST:
            for shape in _shapes(value):
                text = text.replace(shape, MASK)
                text = _without_beginning(text, shape)
    return text


def without_key(text: str, key: str | None) -> str:
    """What a server said, without the key it was sent."""
    return redacted(text, {"": key}) if key else text


def _without_beginning(text: str, shape: str) -> str:
    for size in range(min(len(shape) - 1, len(text)), _LEAST_BEGINNING - 1, -1):
        if text.endswith(shape[:size]):
            return text[:-size] + MASK
    return text


def _shapes(value: str) -> set[str]:
    data = value.encode(errors="replace")
    as_json = {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    encoded = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()}
    in_urls = {quote(data, safe=""), quote_plus(data)}
    return {value} | as_json | {text.replace("/", "\\/") for text in as_json} | encoded | in_urls

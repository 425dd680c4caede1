"""What pydantic finds wrong with an agent file → the field and a sentence that says what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from backend.core.agent import Agent
from backend.core.agent_checks import Problem, nearest

_SECRET_FIELDS = frozenset(("api_key", "fallback_api_key", "headers"))
_NAME = "begins with a letter or _, and goes on with letters, digits and _"
_SENTENCES = {
    "model_type": "write an object: { … }",
    "model_attributes_type": "write an object: { … }",
    "dict_type": "write an object: { … }",
    "tuple_type": "write a list: [ … ]",
    "list_type": "write a list: [ … ]",
    "string_type": 'write a text: "…"',
    "bool_type": "write true or false, without quotation marks",
    "int_type": "write a whole number, without quotation marks",
    "int_from_float": "write a whole number",
    "float_type": "write a number, without quotation marks",
    "finite_number": "write a number that has an end",
    "union_tag_not_found": "needs a type",
}
# By the last name of the field's path: what its pattern asks for.
_PATTERNS = {
    "id": 'must be a name in lower-case letters, digits and hyphens, such as "front-desk", or a UUID',
    "node": 'must be a name of letters, digits, _ and -, such as "ask_name"',
    "phone_numbers": "must be a number with its country code, such as +15551234567, without spaces",
    "language": "must be a language code, such as en or en-US",
    "base_url": "must be an address that begins with http:// or https://",
    "url": "must be an address that begins with http:// or https://",
    "api_key": "must be {{secret:NAME}}, with the name of an environment variable: never the key itself",
    "digits": "must be keys to press: 0-9, A-D, *, #, and w to wait",
}


def explain(details: list[ErrorDetails], data: Any) -> list[Problem]:
    """Each finding once; what only follows from another is left out. `data`: the file's, as it was read."""
    return [_explain(item, data) for item in details if not _shadowed(item, details)]


def _shadowed(item: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """A list is called too short when its only item was refused: the item's own error says more."""
    loc = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
    )


def _explain(item: ErrorDetails, data: Any) -> Problem:
    loc = item["loc"]
    field = _path(loc, data)
    if item["type"] == "extra_forbidden":
        return field, f"unknown field{nearest(str(loc[-1]), _known_fields(loc[:-1]))}"
    if item["type"] == "missing":
        return field, "is required and missing"
    return field, _sentence(item) + _found(item)


def _sentence(item: ErrorDetails) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _pattern_sentence(item["loc"])
    if kind in ("too_short", "string_too_short"):
        return "is empty; it needs at least " + str(context.get("min_length", 1))
    if kind == "too_long":
        return f"has {context['actual_length']} items; at most {context['max_length']} may stand here"
    if kind in ("literal_error", "union_tag_invalid"):
        known = [name.strip(" '") for name in _listed(item)]
        given = context.get("tag", item["input"])
        if known == ["True"]:
            return "can only be true; leave it out otherwise"
        return f"can be {_either(known)}" + _meant(given, known)
    if kind == "union_tag_not_found":
        return "needs a type, one of " + ", ".join(_tags(item["loc"]))
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should", "must").replace("String should", "must")
    return _SENTENCES.get(kind, message[:1].lower() + message[1:])


def _pattern_sentence(loc: tuple[int | str, ...]) -> str:
    names = [part for part in loc if isinstance(part, str)]
    last = names[-1]
    if last == "[key]" or last == "name":
        return f"must be a name that {_NAME}"
    if last == "to" or last == "start" or (last == "id" and "nodes" in names):
        last = "node"
    for name, sentence in _PATTERNS.items():
        if last == name or last.endswith(f"_{name}"):
            return sentence
    return "is not written as this field asks for"


def _listed(item: ErrorDetails) -> list[str]:
    context = item.get("ctx", {})
    text = str(context.get("expected_tags") or context.get("expected", ""))
    return text.replace(" or ", ", ").split(", ")


def _either(known: list[str]) -> str:
    shown = [f"{name!r}" for name in known]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _meant(given: Any, known: list[str]) -> str:
    meant = nearest(given.casefold(), known) if isinstance(given, str) else ""
    return meant if "did you mean" in meant else ""


def _tags(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Agent
    for part in loc:
        model = _step(model, part)
    return [repr(tag) for tag in map(_tag, _models_in(model)) if tag]


def _found(item: ErrorDetails) -> str:
    """What stands there instead; never what may be a key, nor a whole file."""
    value = item["input"]
    if not item["loc"] or _SECRET_FIELDS.intersection(map(str, item["loc"])):
        return ""
    if isinstance(value, str | int | float | bool) or value is None:
        shown = json.dumps(value, ensure_ascii=False)
        return f" (found {shown if len(shown) <= 80 else shown[:77] + '…'})"
    return ""


def _path(loc: tuple[int | str, ...], data: Any) -> str:
    """Where it stands in the file; one that is written without a list has no place in a list."""
    path = ""
    model: Any = Agent
    for part in loc:
        if not isinstance(part, int) and _is_union_tag(model, part):
            model = _step(model, part)
            continue
        model = _step(model, part)
        if isinstance(part, int) and isinstance(data, list):
            path, data = f"{path}[{part}]", data[part]
        elif isinstance(part, str) and (isinstance(data, dict) or part == "[key]"):
            path = f"{path}.{part}" if path else part
            data = data.get(part) if isinstance(data, dict) else None
    return path


def _step(model: Any, part: int | str) -> Any:
    """The annotation one step further in."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, info in model.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    if _is_union_tag(model, part):
        return next(item for item in _models_in(model) if _tag(item) == part)
    models = list(_models_in(model))
    if isinstance(part, int):
        return models[0] if len(models) == 1 else model
    return _step(models[0], part) if len(models) == 1 else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _tag(model: type[BaseModel]) -> str | None:
    info = model.model_fields.get("type")
    return next(iter(get_args(info.annotation)), None) if info else None


def _is_union_tag(annotation: Any, part: int | str) -> bool:
    if isinstance(annotation, type):
        return False
    models = list(_models_in(annotation))
    return len(models) > 1 and any(_tag(model) == part for model in models)


def _known_fields(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Agent
    for part in loc:
        model = _step(model, part)
    models = list(_models_in(model))
    return [info.alias or name for name, info in models[0].model_fields.items()] if models else []

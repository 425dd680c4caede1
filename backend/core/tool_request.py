"""A tool's call → the HTTP request it means; and what is wrong with a tool as an agent file describes it.

The file alone chooses the host: `{{variable}}` of the call and `{argument}` of the model fill the path and
the query, percent-encoded; `{{secret:NAME}}` fills headers. Sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry

from backend.errors import ToolError

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = re.compile(rf"\{{\{{\s*({_NAME})\s*\}}\}}")
_ARGUMENT = re.compile(rf"\{{({_NAME})\}}")
_URL_SLOT = re.compile(f"{_VARIABLE.pattern}|{_ARGUMENT.pattern}")
_SECRET = re.compile(rf"\{{\{{\s*secret:({_NAME})\s*\}}\}}")
_HEADER_SLOT = re.compile(f"{_SECRET.pattern}|{_VARIABLE.pattern}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OUR_HEADERS = frozenset(
    "host content-length transfer-encoding connection accept-encoding upgrade te trailer".split()
)
_SEPARATOR = re.compile(r"[/\\]|%(?:2f|5c)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_MEANT = {
    "str": "string", "text": "string", "int": "integer", "float": "number", "double": "number",
    "decimal": "number", "bool": "boolean", "list": "array", "tuple": "array", "dict": "object",
    "map": "object", "none": "null", **{name: name for name in _TYPES},
}  # fmt: skip
_WITHOUT_BODY = frozenset(("GET", "DELETE"))
_MAX_URL = 8000
_SHOWN = 160


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """What is to be sent. Headers may hold secrets: they show in no representation."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes | None = field(repr=False)


# --- a tool as the file describes it -----------------------------------------------------------------


def url_problem(url: str, parameters: Mapping[str, Any]) -> str | None:
    """Why a tool's address cannot be used, as a sentence; None when it can."""
    host = re.match(r"https?://[^/?#]*", url)
    if host is None or not urlsplit(host.group()).hostname:
        return "is no address: write https://host/path"
    if "{" in host.group() or "}" in host.group():
        return "its host cannot be filled in: variables and arguments belong behind it"
    if "@" in host.group():
        return "holds a user or a password: put keys into headers, as {{secret:NAME}}"
    if "#" in url:
        return "has a # part, which is never sent: leave it out"
    if _SECRET.search(url):
        return "names a secret, and addresses end up in logs: put it into headers"
    if _has_dots(url[host.end() :]):
        return "has . or .. in its path: write it out"
    rest = _URL_SLOT.sub("", url)
    if "{" in rest or "}" in rest:
        return "has braces that are neither {{variable}} nor {argument}"
    known = parameters.get("properties") or {}
    unknown = [name for name in _arguments_in(url) if name not in known]
    return f"{{{unknown[0]}}} is none of parameters.properties" if unknown else None


def header_problem(name: str, value: str) -> str | None:
    """Why a header cannot be sent, as a sentence; None when it can."""
    if not _HEADER_NAME.fullmatch(name):
        return f"{name!r} is no name of a header"
    if name.lower() in _OUR_HEADERS:
        return f"{name} is set by the backend itself: leave it out"
    if _CONTROL.search(value):
        return f"{name} holds a line break or another control character"
    rest = _HEADER_SLOT.sub("", value)
    if "{{" in rest or "}}" in rest:
        return f"{name}: write {{{{variable}}}} or {{{{secret:NAME}}}}, with both pairs of braces"
    return None


def parameters_problem(parameters: dict[str, Any]) -> str | None:
    """Why it cannot be the JSON Schema of a tool's arguments, as a sentence; None when it can."""
    if parameters.get("type", "object") != "object":
        return 'must describe an object: {"type": "object", "properties": {…}}'
    try:
        validator_for(parameters, default=Draft202012Validator).check_schema(parameters)
    except SchemaError as error:
        return f"is not a JSON Schema: {_where(error)}{_unknown_type(error) or _short(error.message)}"
    for reference in _references(parameters):
        if not reference.startswith("#"):
            return f"$ref {reference!r} is elsewhere: only #/… in this schema can be used"
    return None


def _unknown_type(error: SchemaError) -> str:
    """What is wrong where a schema names a type that there is not; "": something else is wrong."""
    if not error.absolute_path or error.absolute_path[-1] != "type":
        return ""
    given = error.instance if isinstance(error.instance, list) else [error.instance]
    wrong = [name for name in given if name not in _TYPES]
    if not wrong:
        return ""
    meant = _MEANT.get(str(wrong[0]).casefold())
    hint = f"did you mean {meant!r}? Known" if meant else "known"
    return f"{_short(repr(wrong[0]))} is no type; {hint} are {', '.join(_TYPES)}"


# --- a call of it ------------------------------------------------------------------------------------


def parse_arguments(tool: str, arguments: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the model wrote, checked. Raises ToolError with a sentence for the model."""
    try:
        values = json.loads(arguments or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ToolError(
            f"The arguments of {tool} are not valid JSON ({_short(str(error))}). Send one JSON object."
        ) from None
    if not isinstance(values, dict):
        raise ToolError(f"The arguments of {tool} must be one JSON object.")
    kind = validator_for(parameters, default=Draft202012Validator)
    # An empty registry: a schema never makes the backend fetch another from somewhere.
    validator = kind(parameters, format_checker=kind.FORMAT_CHECKER, registry=Registry())
    errors = sorted(validator.iter_errors(values), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        told = "; ".join(f"{_where(error)}{_short(error.message)}" for error in errors[:3])
        raise ToolError(f"The arguments of {tool} do not fit: {told}. Mend them, or ask the caller.")
    return values


def build_request(
    tool: str,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    arguments: Mapping[str, Any],
    variables: Mapping[str, str],
    secrets: Mapping[str, str],
) -> ToolRequest:
    """The request of one call. Arguments that the address does not name go into the query (GET, DELETE)
    or into a JSON body. Raises ToolError with a sentence for the model.
    """
    rest = {name: value for name, value in arguments.items() if name not in _arguments_in(url)}
    filled = _fill_url(tool, url, arguments, variables)
    body = None
    if method in _WITHOUT_BODY:
        query = urlencode(_query(rest), doseq=True, quote_via=quote)
        filled += ("&" if "?" in filled else "?") + query if query else ""
    else:
        body = json.dumps(rest, ensure_ascii=False).encode()
    if len(filled) > _MAX_URL:
        raise ToolError(f"The arguments of {tool} are too long.")
    sent = [(name, _fill_header(tool, value, variables, secrets)) for name, value in headers.items()]
    given = {name.lower() for name in headers}
    if "accept" not in given:
        sent.append(("Accept", "application/json, text/plain;q=0.9, */*;q=0.1"))
    if body is not None and "content-type" not in given:
        sent.append(("Content-Type", "application/json"))
    return ToolRequest(method, filled, tuple(sent), body)


def _fill_url(tool: str, url: str, arguments: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    path, mark, query = url.partition("?")

    def fill(in_path: bool) -> Callable[[re.Match[str]], str]:
        def value_of(slot: re.Match[str]) -> str:
            variable, argument = slot.groups()
            value = variables.get(variable, "") if variable else _scalar(tool, argument, arguments)
            if in_path and not value.strip():
                raise ToolError(f"{tool} cannot be used yet: {variable or argument} is not known.")
            # Percent-encoded they are one segment still, but many servers and proxies decode them first.
            if in_path and _SEPARATOR.search(value):
                what = f"{variable or argument} goes into an address and cannot hold / or \\"
                raise ToolError(f"The arguments of {tool} do not fit: {what}.")
            return quote(value, safe="")

        return value_of

    filled = _URL_SLOT.sub(fill(True), path)
    if _has_dots(filled):  # a path of another tool, perhaps
        raise ToolError(f"The arguments of {tool} cannot be part of an address.")
    return filled + mark + _URL_SLOT.sub(fill(False), query)


def _scalar(tool: str, name: str, arguments: Mapping[str, Any]) -> str:
    value = arguments.get(name)
    if isinstance(value, dict | list):
        raise ToolError(f"The arguments of {tool} do not fit: {name} must be a single value.")
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _query(values: Mapping[str, Any]) -> list[tuple[str, str | list[str]]]:
    def shown(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else _plain(value)

    return [
        (name, [shown(item) for item in value] if isinstance(value, list) else shown(value))
        for name, value in values.items()
        if value is not None
    ]


def _fill_header(tool: str, value: str, variables: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    def value_of(slot: re.Match[str]) -> str:
        secret, variable = slot.groups()
        if variable:
            return variables.get(variable, "")
        if not secrets.get(secret):
            raise ToolError(f"{tool} is not set up: it cannot be used in this call.")
        return secrets[secret]

    # What callers say ends up in variables: it must not begin another header.
    return _CONTROL.sub(" ", _HEADER_SLOT.sub(value_of, value)).strip()


def _arguments_in(url: str) -> list[str]:
    return [slot.group(2) for slot in _URL_SLOT.finditer(url) if slot.group(2)]


def _has_dots(path: str) -> bool:
    segments: Sequence[str] = path.partition("?")[0].lower().replace("%2e", ".").split("/")
    return any(segment in (".", "..") for segment in segments)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _where(error: ValidationError | SchemaError) -> str:
    path = ".".join(str(part) for part in error.absolute_path)
    return f"{path}: " if path else ""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")

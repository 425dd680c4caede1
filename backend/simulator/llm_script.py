"""What the language model's stand-in answers: a JSON file of rules, each with what it fits and a reply.

Decides only. Knows nothing of HTTP and of time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from backend.errors import ConfigError

_Ms = Annotated[int, Field(ge=0, le=600_000)]
_SLOT = re.compile(r"\{\{(\w+)\}\}")


class LlmScriptError(ConfigError):
    """A script that cannot be used; the message names the place and the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Regex(_Part):
    """Found anywhere, whatever the case; its groups fill {{1}} or {{name}} in the reply."""

    regex: str

    @model_validator(mode="after")
    def _compiles(self) -> Regex:
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return self


Pattern = str | Regex
"""Words found anywhere, whatever the case; or a regular expression."""


class LlmWhen(_Part):
    """What must hold, all of it; nothing given: any request."""

    user: Pattern | None = Field(None, description="The user's last message.")
    tool: Pattern | None = Field(None, description="A tool's result, when that is the last message.")
    system: Pattern | None = Field(None, description="Any system message.")
    model: Pattern | None = None
    offers: str | None = Field(None, description="A tool of this name is offered.")


class Refusal(_Part):
    """A refusal, in the shape of OpenAI's. Among a reply's steps: an error event in the stream."""

    status: int = Field(500, ge=400, le=599)
    code: str | None = None
    message: str = "scripted failure"
    type: str = "scripted_error"


class Step(_Part):
    """One step; exactly one of these. `pace_ms` goes before every word, or every fragment."""

    say: str | None = None
    wait_ms: _Ms | None = None
    call: str | None = Field(None, description="A tool's name.")
    error: Refusal | None = None
    stall: bool = Field(False, description="Send nothing more, and keep the connection.")
    malformed: bool = Field(False, description="Send an event that is not JSON.")
    cut: bool = Field(False, description="Break the connection.")

    arguments: dict[str, Any] | str = Field({}, description="Of `call`; text is sent as it stands.")
    fragments: int = Field(3, ge=1, le=1000, description="In how many pieces `arguments` is sent.")
    pace_ms: _Ms = 0

    @model_validator(mode="after")
    def _exactly_one(self) -> Step:
        given = [self.say, self.wait_ms, self.call, self.error]
        if sum(item is not None for item in given) + self.stall + self.malformed + self.cut != 1:
            raise ValueError("give exactly one of say, wait_ms, call, error, stall, malformed, cut")
        return self


def _steps(value: Any) -> Any:
    return ({"say": value},) if isinstance(value, str) else value


class LlmRule(_Part):
    """The first rule that fits, and is not used up, answers."""

    when: LlmWhen = LlmWhen()
    reply: Annotated[tuple[Step, ...], BeforeValidator(_steps)] = Field((), description="Steps, or one text.")
    refuse: Refusal | None = Field(None, description="Instead of a reply.")
    after_ms: _Ms = Field(0, description="Before anything is answered, even the HTTP status.")
    times: int | None = Field(None, ge=1, description="How often it may be used; left out: always.")
    finish: str | None = Field(None, description="finish_reason, if not `stop` or `tool_calls`.")

    @model_validator(mode="after")
    def _answers(self) -> LlmRule:
        if (self.refuse is None) == (not self.reply):
            raise ValueError("give `reply` or `refuse`")
        return self


class LlmScript(_Part):
    """A stand-in's whole behaviour. Without rules it says what it heard."""

    rules: tuple[LlmRule, ...] = ()
    api_key: str | None = Field(None, description="Asked for when given.")
    first_ms: _Ms = Field(0, description="Before the first word of every reply.")
    pace_ms: _Ms = Field(0, description="Before every further word, where a step says nothing else.")
    tells_usage: bool = Field(True, description="Whether usage is told when asked for.")


@dataclass(frozen=True, slots=True)
class Heard:
    """A request, as far as rules look at it."""

    model: str
    user: str
    tool: str | None
    """The result of a tool, when that is the last message."""
    system: str
    offered: tuple[str, ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Heard:
        messages = [item for item in body.get("messages") or () if isinstance(item, dict)]
        by_role = [(str(item.get("role")), _text(item.get("content"))) for item in messages]
        last_role, last = by_role[-1] if by_role else ("", "")
        tools = [item.get("function") or {} for item in body.get("tools") or () if isinstance(item, dict)]
        return cls(
            model=str(body.get("model") or ""),
            user=next((text for role, text in reversed(by_role) if role == "user"), ""),
            tool=last if last_role == "tool" else None,
            system="\n".join(text for role, text in by_role if role in ("system", "developer")),
            offered=tuple(str(item.get("name")) for item in tools),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be done: the rule and the reply's steps with their slots filled."""

    rule: int | None
    """Its place in the script; None: the default."""
    steps: tuple[Step, ...]
    refuse: Refusal | None = None
    after_ms: int = 0
    finish: str | None = None


class LlmRules:
    """Which rule answers; counts how often each did."""

    def __init__(self, script: LlmScript) -> None:
        self.script = script
        self._used: Counter[int] = Counter()

    def answer(self, heard: Heard) -> Answer:
        """The first rule that fits and is not used up; else what was heard is said."""
        for at, rule in enumerate(self.script.rules):
            if rule.times is not None and self._used[at] >= rule.times:
                continue
            groups = _fits(rule.when, heard)
            if groups is None:
                continue
            self._used[at] += 1
            slots = groups | {"user": heard.user, "tool": heard.tool or ""}
            steps = tuple(_filled(step, slots) for step in rule.reply)
            return Answer(at, steps, rule.refuse, rule.after_ms, rule.finish)
        said = f"You said: {heard.user}" if heard.tool is None else f"The tool says: {heard.tool}"
        return Answer(None, (Step(say=said),))


def read_llm_script(path: Path) -> LlmScript:
    """Raises LlmScriptError with a sentence."""
    try:
        return parse_llm_script(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LlmScriptError(f"{path} cannot be read as JSON: {error}") from error


def parse_llm_script(document: Any) -> LlmScript:
    """Raises LlmScriptError, a line a mistake."""
    try:
        return LlmScript.model_validate(document)
    except ValidationError as error:
        found: dict[str, ErrorDetails] = {}
        for item in error.errors(include_url=False):
            # pydantic calls a shape that checks itself by the name of that check, too.
            item["loc"] = tuple("Regex" if str(part).endswith("Regex]") else part for part in item["loc"])
            known = found.setdefault(place := _place(item["loc"]), item)
            if _tells_more(item) > _tells_more(known):
                found[place] = item
        lines = [f"{place or 'script'}: {_sentence(item)}" for place, item in found.items()]
        raise LlmScriptError("\n".join(lines)) from None


_SHAPES = frozenset(("str", "Regex", "dict[str,any]"))  # of a pattern and of `arguments`: no part of a place


def _tells_more(item: ErrorDetails) -> int:
    """Of a pattern's two shapes, the one that was meant is the one that could be read so far."""
    if "Regex" not in item["loc"] or item["type"] == "model_type":
        return 0
    return 1 if item["type"] == "missing" else 2


def _place(loc: tuple[int | str, ...]) -> str:
    place = ""
    for part in loc:
        if part in _SHAPES:
            break
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return place.removeprefix(".")


def _sentence(item: ErrorDetails) -> str:
    loc = item["loc"]
    if item["type"] == "extra_forbidden":
        field, parent = str(loc[-1]), next((part for part in loc[-2::-1] if part in _PARTS), "")
        fields = list(_PARTS[parent].model_fields)
        near = get_close_matches(field, fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
        return f"{repr(field) + ' ' if 'Regex' in loc else ''}is no field; {hint}"
    if item["type"] == "missing":
        return 'needs "regex", or is a text' if "Regex" in loc else "is missing"
    return item["msg"].removeprefix("Value error, ")


_PARTS: Mapping[int | str, type[BaseModel]] = {
    "": LlmScript, "rules": LlmRule, "when": LlmWhen, "reply": Step, "refuse": Refusal, "error": Refusal,
    "Regex": Regex,
}  # fmt: skip


def _fits(when: LlmWhen, heard: Heard) -> dict[str, str] | None:
    # A rule for the caller's words would otherwise call its tool again and again.
    is_of_either = when.tool is not None or when.user is not None
    if is_of_either and (heard.tool is not None) != (when.tool is not None):
        return None
    if when.offers is not None and when.offers not in heard.offered:
        return None
    groups: dict[str, str] = {}
    pairs = ((when.user, heard.user), (when.tool, heard.tool), (when.system, heard.system))
    for pattern, text in (*pairs, (when.model, heard.model)):
        if pattern is None:
            continue
        found = _found(pattern, text or "")
        if found is None:
            return None
        groups |= found
    return groups


def _found(pattern: Pattern, text: str) -> dict[str, str] | None:
    if isinstance(pattern, str):
        return {} if pattern.casefold() in text.casefold() else None
    match = re.search(pattern.regex, text, re.IGNORECASE)
    if match is None:
        return None
    numbered = {str(at): group or "" for at, group in enumerate(match.groups(), 1)}
    return numbered | {name: group or "" for name, group in match.groupdict().items()}


def _filled(step: Step, slots: Mapping[str, str]) -> Step:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _SLOT.sub(lambda slot: slots.get(slot.group(1), slot.group(0)), value)
        if isinstance(value, dict):
            return {name: fill(item) for name, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return step.model_copy(update={"say": fill(step.say), "arguments": fill(step.arguments)})


def _text(content: Any) -> str:
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return "" if content is None else str(content)

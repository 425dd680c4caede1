"""A suite: callers, scripted or played by a language model, and what must come of their calls.

Read from JSON, checked before any call. Knows nothing of how calls are held or judged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from backend.core.agent_fields import HttpUrl, Secret
from backend.errors import ConfigError
from backend.simulator.script import Script, ScriptError, VoiceShape, parse_script

Mode = Literal["text", "audio"]
_Id = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w.-]*$")]
_Words = Annotated[str, Field(min_length=1, max_length=500)]
_Share = Annotated[float, Field(ge=0, le=1)]
_SAME_ID = "two cases have the id {!r}"


class SuiteError(ConfigError):
    """A suite that cannot be used; the message names the file, the field and the reason, a line a mistake."""

    def __init__(self, message: str, sound: Suite | None = None) -> None:
        super().__init__(message)
        self.sound = sound
        """What of it could be read."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LineSettings(_Part):
    """The telephone line of a call. In text it has no effect: nothing is heard there."""

    codec: Literal["PCMU", "PCMA"] = "PCMU"
    noise_db: Annotated[float, Field(ge=-60, le=0)] | None = Field(
        default=None, description="Background noise of all the caller says, relative to their voice: -10."
    )
    lose: _Share = Field(default=0.0, description="Chance that 20 ms of the caller are lost.")
    shuffle: _Share = Field(default=0.0, description="Chance that 20 ms of the caller are overtaken.")


class Expect(_Part):
    """What must come of the call. Only what is given is judged."""

    nodes: tuple[str, ...] = Field(default=(), description="Visited in this order; others may come between.")
    never_nodes: tuple[str, ...] = Field(default=(), description="Never visited.")
    ends_at: str | None = Field(default=None, description="The node at which the call ends.")
    ends_by: Literal["agent", "caller", "transfer"] | None = Field(
        default=None, description="Who ends the call."
    )
    hangup_cause: str | None = Field(default=None, description="The carrier's cause: `normal_clearing`.")
    transfer_to: str | None = Field(default=None, description="The number the caller is handed to.")
    says: tuple[_Words, ...] = Field(default=(), description="The caller hears each of these from the agent.")
    never_says: tuple[_Words, ...] = Field(default=(), description="Words that the agent never says.")
    hears: tuple[_Words, ...] = Field(default=(), description="What the agent makes of the caller's words.")
    collected: dict[str, str] = Field(
        default_factory=dict, description="The call's variables at its end; letters' case does not matter."
    )
    tools: tuple[str, ...] = Field(
        default=(), description="Tools called, in this order; others may come between."
    )
    never_tools: tuple[str, ...] = Field(default=(), description="Tools never called.")
    interruptions: int | None = Field(
        default=None, ge=0, description="So many of the agent's turns are cut short."
    )
    barge_in_ms: float | None = Field(
        default=None, gt=0, description="An interrupted agent falls silent within so long."
    )
    answer_p50_ms: float | None = Field(
        default=None, gt=0, description="Median of the wait for the agent's answers, on the line."
    )
    answer_p95_ms: float | None = Field(default=None, gt=0, description="Its 95th percentile.")
    word_errors: _Share | None = Field(
        default=None, description="Of what the agent said: words the caller's ears did not get. Audio only."
    )
    max_seconds: float | None = Field(default=None, gt=0, description="The call is no longer than this.")
    error: bool = Field(default=False, description="Whether the backend may report a problem of the call.")


class PlayedBy(_Part):
    """A language model plays the caller."""

    goal: str = Field(
        min_length=1, max_length=4_000, description="Who the caller is and what they want: `You are Maria …`."
    )
    style: str = Field(default="", max_length=500, description="How they talk: impatient, mumbling.")
    model: str | None = Field(default=None, min_length=1, description="Left out: the agent's own.")
    base_url: HttpUrl | None = Field(default=None, description="Instead of OPENAI_BASE_URL.")
    api_key: Secret | None = Field(
        default=None,
        description="{{secret:NAME}}; if left out: OPENAI_API_KEY, where OPENAI_BASE_URL is asked.",
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_turns: int = Field(
        default=12, ge=1, le=100, description="So often the caller does something; then the case has failed."
    )
    max_seconds: float = Field(
        default=180, gt=0, le=280, description="The call is no longer; then the case has failed."
    )
    max_tokens: int = Field(
        default=50_000,
        ge=1,
        description="Of all requests of a call, prompts included; beyond that the case has failed.",
    )
    timeout_ms: int = Field(default=30_000, ge=500, le=120_000, description="Longest wait for one reply.")


class Case(_Part):
    """One caller."""

    id: _Id
    description: str = ""
    tags: tuple[_Id, ...] = ()
    repeat: int = Field(default=1, ge=1, le=1_000)
    pass_rate: _Share = Field(default=1.0, description="Of the repeats, so many must pass.")
    modes: tuple[Mode, ...] = Field(default=("text", "audio"), min_length=1)
    outbound: bool | None = Field(
        default=None, description="Whether the agent calls; unset: when it has no number of its own."
    )
    variables: dict[str, str] = Field(default_factory=dict, description="Variables of an outbound call.")
    line: LineSettings = LineSettings()
    voice: VoiceShape = VoiceShape()
    steps: tuple[dict[str, Any], ...] = Field(
        default=(), description="What the caller does: the language of `voice-agent simulate`'s scripts."
    )
    played_by: PlayedBy | None = Field(default=None, description="Instead of steps.")
    expect: Expect = Expect()

    _script: Script = PrivateAttr(default_factory=Script)

    @model_validator(mode="after")
    def _checked(self) -> Case:
        if self.played_by is not None and self.steps:
            raise ValueError("give steps or played_by, not both")
        try:
            self._script = parse_script(self.script_document())
        except ScriptError as error:
            lines = (line.removeprefix("script.") for line in str(error).splitlines())
            raise ValueError("\n".join(lines)) from error
        return self

    @property
    def script(self) -> Script:
        """The steps, checked, over this case's line."""
        return self._script

    def script_document(self) -> dict[str, Any]:
        """The script as JSON, as the Telnyx stand-in takes it."""
        noise = {} if self.line.noise_db is None else {"noise_db": self.line.noise_db}
        steps = [{**noise, **step} if "say" in step else step for step in self.steps]
        return {"voice": self.voice.model_dump(), "steps": steps}


class Suite(_Part):
    """Cases for one agent."""

    model_config = ConfigDict(title="Eval suite", extra="forbid", frozen=True)

    schema_: str | None = Field(default=None, alias="$schema", description="For editors.")
    name: str = Field(min_length=1, max_length=120)
    agent: str = Field(min_length=1, description="The agent: its id, name or file.")
    description: str = ""
    pass_rate: _Share = Field(default=1.0, description="So many of the cases must pass.")
    variables: dict[str, str] = Field(default_factory=dict, description="For every case's variables.")
    line: LineSettings | None = Field(default=None, description="For cases without a line of their own.")
    expect: dict[str, Any] = Field(default_factory=dict, description="For every case's expectations.")
    played_by: dict[str, Any] = Field(
        default_factory=dict, description="For every case that has a `played_by`: its model."
    )
    cases: tuple[Case, ...] = Field(min_length=1, max_length=1_000)

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, document: Any) -> Any:
        """What the suite says of every case is handed to each; what a case says itself wins."""
        if not isinstance(document, Mapping) or not isinstance(document.get("cases"), list | tuple):
            return document
        cases = [_with_shared(case, document) for case in document["cases"]]
        return {**document, "cases": cases}

    @model_validator(mode="after")
    def _different(self) -> Suite:
        seen: set[str] = set()
        for case in self.cases:
            if case.id in seen:
                raise ValueError(_SAME_ID.format(case.id))
            seen.add(case.id)
        return self


def _with_shared(case: Any, suite: Mapping[str, Any]) -> Any:
    if not isinstance(case, Mapping):
        return case
    shared: dict[str, Any] = {}
    for name in ("variables", "expect"):
        if isinstance(suite.get(name), Mapping):
            own = case.get(name, {})
            shared[name] = {**suite[name], **own} if isinstance(own, Mapping) else own
    if isinstance(suite.get("played_by"), Mapping) and isinstance(case.get("played_by"), Mapping):
        shared["played_by"] = {**suite["played_by"], **case["played_by"]}
    if "line" not in case and suite.get("line") is not None:
        shared["line"] = suite["line"]
    return {**case, **shared}


def load_suite(path: Path) -> Suite:
    """A suite from a JSON file. Raises SuiteError, one line a mistake: file, field, reason."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SuiteError(f'{path}: is no suite: expected {{"name": …, "agent": …, "cases": […]}}')
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        # A list is called too short when its only item was refused, whose own mistake says more.
        found = error.errors(include_url=False)
        problems = [item for item in found if item["type"] != "too_short" or len(found) == 1]
        lines = [line for problem in problems for line in _sentences(dict(problem))]
        lines += [line for line in _same_ids(document) if line not in lines]
        sound = _sound_part(document)
        raise SuiteError("\n".join(f"{path}: {line}" for line in lines), sound) from error


def _same_ids(document: Mapping[str, Any]) -> Iterator[str]:
    cases = document.get("cases")
    ids = [case.get("id") for case in cases if isinstance(case, Mapping)] if isinstance(cases, list) else []
    counts = Counter(item for item in ids if isinstance(item, str))
    yield from (_SAME_ID.format(name) for name, count in counts.items() if count > 1)


def _sound_part(document: Mapping[str, Any]) -> Suite | None:
    """The suite with those of its cases alone that can be read; None where that is none."""
    if not isinstance(document.get("cases"), list):
        return None
    known = {item.alias or name for name, item in Suite.model_fields.items()}
    base = {name: value for name, value in document.items() if name in known}
    sound: dict[str, Any] = {}
    for case in document["cases"]:
        with suppress(ValidationError):
            (read,) = Suite.model_validate({**base, "cases": [case]}).cases
            sound.setdefault(read.id, case)
    return Suite.model_validate({**base, "cases": list(sound.values())}) if sound else None


def suite_schema() -> dict[str, Any]:
    """The JSON Schema that editors check suites with; steps as scripts know them."""
    schema = Suite.model_json_schema(by_alias=True)
    script = Script.model_json_schema(ref_template="#/$defs/{model}")
    definitions = {**script.pop("$defs", {}), **schema["$defs"]}
    steps = script["properties"]["steps"]
    definitions["Case"]["properties"]["steps"]["items"] = steps["items"]
    expect = {"$ref": "#/$defs/Expect", "description": schema["properties"]["expect"]["description"]}
    schema["properties"]["expect"] = expect
    played_by = {name: part for name, part in definitions["PlayedBy"].items() if name != "required"}
    schema["properties"]["played_by"] = {
        **played_by,
        "description": schema["properties"]["played_by"]["description"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }


_PARTS: dict[str, type[BaseModel]] = {
    "expect": Expect, "line": LineSettings, "voice": VoiceShape, "played_by": PlayedBy, "cases": Case,
}  # fmt: skip


def _sentences(problem: Mapping[str, Any]) -> list[str]:
    """One for each mistake in a case's script, else one."""
    return [_sentence({**problem, "msg": line}) for line in str(problem["msg"]).splitlines()]


def _sentence(problem: Mapping[str, Any]) -> str:
    loc = list(problem["loc"])
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if problem["type"] == "extra_forbidden":
        parent = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), None)
        model = _PARTS.get(parent or "", Suite)
        known = [item.alias or name for name, item in model.model_fields.items()]
        near = get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{field}: is no field; {hint}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        reason = "is missing"
    elif problem["type"] == "too_short":
        reason = "is empty"
    elif problem["type"] == "string_pattern_mismatch" and ("id" in loc or "tags" in loc):
        reason = f"{problem['input']!r} is not a name of letters, digits, '.', '_' and '-'"
    if field.startswith("cases[") and reason.startswith("steps"):
        separator, rest = ".", reason
        return f"{field}{separator}{rest}"
    return f"{field}: {reason}" if field else reason


if __name__ == "__main__":
    print(json.dumps(suite_schema(), indent=2, ensure_ascii=False))

"""The caller's script: a small JSON of steps, checked before the call so that a typing error is one sentence.

Steps are frozen values inside; pydantic reads them. Knows nothing of how they are played.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from backend.errors import ConfigError
from backend.simulator.spoken import spoken_words

_TimeoutMs = Annotated[int, Field(gt=0, le=600_000)]
_Text = Annotated[str, Field(min_length=1, max_length=1_000)]
_NoiseDb = Annotated[float, Field(ge=-60, le=0)]
MAX_STEPS = 200


class ScriptError(ConfigError):
    """A script that cannot be played; the message names the step and the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VoiceShape(_Part):
    """How the caller sounds. `pitch` 1.0 is the embedded voice's own, `speed` 1.0 its own pace."""

    pitch: float = Field(default=1.18, ge=0.6, le=1.8, strict=False)
    speed: float = Field(default=1.05, ge=0.5, le=2.0, strict=False)


class WaitFor(_Part):
    """Wait until the agent was heard to say this, or any of these."""

    wait_for: str | list[str]
    timeout_ms: _TimeoutMs = 15_000

    @property
    def phrases(self) -> list[str]:
        return [self.wait_for] if isinstance(self.wait_for, str) else self.wait_for

    @field_validator("wait_for")
    @classmethod
    def _has_words(cls, value: str | list[str]) -> str | list[str]:
        phrases = [value] if isinstance(value, str) else value
        if not phrases or not all(spoken_words(phrase) for phrase in phrases):
            raise ValueError("has no words to wait for")
        return value


class WaitUntilQuiet(_Part):
    """Wait until nobody has spoken for `quiet_ms`."""

    wait_until_quiet: Literal[True]
    quiet_ms: int = Field(default=700, ge=100, le=60_000)
    timeout_ms: _TimeoutMs = 30_000


class Say(_Part):
    """Speak now. `noise_db`: background noise, relative to the speech's own level; `beep`: a tone follows."""

    say: _Text
    beep: bool = False
    noise_db: _NoiseDb | None = Field(default=None, strict=False)


class SayUntil(_Part):
    """Speak until the agent says one of these: when it says something else and falls silent, `again`'s words
    come, one after the other, as people say it once more and more plainly; then, if given, a key."""

    say: _Text
    until: str | list[str]
    again: list[_Text] = Field(default_factory=list, max_length=10)
    or_press: str | None = Field(default=None, pattern=r"^[0-9*#A-D]$")
    noise_db: _NoiseDb | None = Field(default=None, strict=False)
    timeout_ms: _TimeoutMs = 20_000

    @property
    def phrases(self) -> list[str]:
        return [self.until] if isinstance(self.until, str) else self.until

    @property
    def says(self) -> list[Say]:
        """What is said, try by try."""
        return [Say(say=words, noise_db=self.noise_db) for words in (self.say, *self.again)]

    @field_validator("until")
    @classmethod
    def _has_words(cls, value: str | list[str]) -> str | list[str]:
        return WaitFor(wait_for=value).wait_for


class Interrupt(_Part):
    """Speak `interrupt_after_ms` after the agent begins its next speech."""

    interrupt_after_ms: int = Field(ge=0, le=60_000)
    say: _Text
    noise_db: _NoiseDb | None = Field(default=None, strict=False)
    timeout_ms: _TimeoutMs = 15_000


class Press(_Part):
    """Press keys, a quarter of a second apart."""

    press: str = Field(min_length=1, max_length=64, pattern=r"^[0-9*#A-D]+$")


class StaySilent(_Part):
    """Say nothing for so long."""

    silent_ms: int = Field(ge=0, le=600_000)


class HangUp(_Part):
    """End the call."""

    hang_up: Literal[True]


Step = WaitFor | WaitUntilQuiet | Say | SayUntil | Interrupt | Press | StaySilent | HangUp

# `interrupt_after_ms` and `until` stand before `say`, which they also have.
_STEPS: dict[str, type[Step]] = {
    "wait_for": WaitFor,
    "wait_until_quiet": WaitUntilQuiet,
    "interrupt_after_ms": Interrupt,
    "until": SayUntil,
    "say": Say,
    "press": Press,
    "silent_ms": StaySilent,
    "hang_up": HangUp,
}


class Script(_Part):
    """What the caller does, step by step; then they stay on the line and listen. `machine`: it is no person
    but an answering machine, which speaks first; a carrier that is to find that out does."""

    voice: VoiceShape = VoiceShape()
    machine: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def spoken(self) -> list[Say | Interrupt]:
        """All that the caller may have to say."""
        says: list[Say | Interrupt] = []
        for step in self.steps:
            if isinstance(step, SayUntil):
                says += step.says
            elif isinstance(step, Say | Interrupt):
                says.append(step)
        return says


LISTENER = Script()


def parse_script(document: object) -> Script:
    """A checked script. Raises ScriptError, a line a mistake: each names the step and what to do."""
    if not isinstance(document, Mapping):
        raise ScriptError('script: expected a JSON object like {"steps": [{"say": "Hello."}]}')
    unknown = [key for key in document if key not in Script.model_fields]
    if unknown:
        raise ScriptError(f"script: {_unknown(unknown[0], Script.model_fields)}")
    steps = document.get("steps", [])
    if not isinstance(steps, list):
        raise ScriptError("script.steps: expected a list of steps")
    if len(steps) > MAX_STEPS:
        raise ScriptError(f"script.steps: {len(steps)} steps are too many; at most {MAX_STEPS}")
    voice = _model(VoiceShape, document.get("voice", {}), "script.voice")
    machine = document.get("machine", False)
    if not isinstance(machine, bool):
        raise ScriptError("script.machine: expected true or false")
    parsed = _steps(steps)
    if machine and not (parsed and isinstance(parsed[0], Say)):
        raise ScriptError('script.steps: an answering machine begins with its greeting: {"say": "…"}')
    return Script(voice=voice, machine=machine, steps=parsed)


def load_script(path: Path) -> Script:
    """A script from a JSON file. Raises ScriptError that names the file."""
    try:
        return parse_script(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ScriptError(f"{path}: cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: is not JSON: {error}") from error
    except ScriptError as error:
        raise ScriptError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def _steps(steps: Sequence[object]) -> tuple[Step, ...]:
    parsed: list[Step] = []
    problems: list[str] = []
    for number, step in enumerate(steps):
        try:
            parsed.append(_step(step, f"script.steps[{number}]"))
        except ScriptError as error:
            problems.append(str(error))
    if problems:
        raise ScriptError("\n".join(problems))
    return tuple(parsed)


def _step(step: object, where: str) -> Step:
    if not isinstance(step, Mapping):
        raise ScriptError(f'{where}: expected an object like {{"say": "Hello."}}, got {type(step).__name__}')
    verb = next((verb for verb in _STEPS if verb in step), None)
    if verb is None:
        first = next(iter(step), "")
        raise ScriptError(f"{where}: {_unknown(str(first), _STEPS)}")
    return _model(_STEPS[verb], step, where)


_PartT = TypeVar("_PartT", bound=_Part)


def _model(model: type[_PartT], value: object, where: str) -> _PartT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        lines = dict.fromkeys(_sentence(dict(problem), model, where) for problem in found)
        raise ScriptError("\n".join(lines)) from error


def _sentence(problem: Mapping[str, Any], model: type[_Part], where: str) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return f"{where}: {_unknown(field, model.model_fields)}"
    reason = _REASONS.get((model, field)) or str(problem["msg"]).removeprefix("Value error, ")
    if field == "say" and model is Say and problem["type"] == "string_too_short":
        reason = "is empty; give the words to say"
    return f"{where}: {field}: {reason}" if field else f"{where}: {reason}"


_REASONS: dict[tuple[type[_Part], str], str] = {
    (Press, "press"): "keys are 0-9, *, # and A-D, given as text",
    (HangUp, "hang_up"): "can only be true",
    (WaitUntilQuiet, "wait_until_quiet"): "can only be true",
    (SayUntil, "say"): "give the words to say, at least one and at most 1000 characters",
    (Interrupt, "say"): "an interruption needs the words to say, at least one and at most 1000 characters",
}


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown field {name!r}; {hint}" if name else f"empty; known are {', '.join(known)}"

"""What fields of an agent file may hold: texts, names, numbers, addresses. Types and their checks only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from backend.core.templates import template_problem


class AgentModel(BaseModel):
    """What every part of an agent file keeps to: no unknown fields, no guessing at types."""

    # strict: "320" is not a number and 1 is not true; a typing slip is told, not guessed at.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False
    )


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; leave the field out when nothing is to be said")
    if problem := template_problem(text):
        raise ValueError(problem)
    return text


def one_or_more(value: Any) -> Any:
    """What a strict tuple takes, of one item or a list of them."""
    if isinstance(value, list):
        return tuple(value)  # the list is Python's by now, and a strict tuple would refuse it
    return (value,) if isinstance(value, str | dict | BaseModel) else value


NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
SLUG_OR_UUID = r"^([a-z0-9]+(-[a-z0-9]+)*|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"

Text = Annotated[str, Field(max_length=4000), AfterValidator(_check_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(one_or_more, json_schema_input_type=Text | list[Text])]
VariableName = Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
E164 = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
NodeId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+", max_length=2000)]
Secret = Annotated[str, StringConstraints(pattern=r"^\{\{secret:[A-Za-z_][A-Za-z0-9_]*\}\}$", max_length=100)]

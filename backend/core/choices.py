"""One of several options in a caller's words: by its name, another word for it, or its place in the list.

Pure; knows English. Refuses to know about flows, keys and models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from backend.core.agent_fields import AgentModel
from backend.core.matching import words

_Said = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _check_name(name: str) -> str:
    if "{{" in name:
        raise ValueError("is matched as it is written: it can hold no {{variable}}")
    if not words(name):
        raise ValueError("holds no word that a caller could say")
    return name.strip()


def _value_alone(option: Any) -> Any:
    return {"value": option} if isinstance(option, str) else option


class Option(AgentModel):
    """One answer that may be chosen."""

    value: Annotated[_Said, AfterValidator(_check_name)] = Field(
        description="What is kept in the variable; said aloud, it chooses the option, too."
    )
    words: Annotated[
        tuple[Annotated[_Said, AfterValidator(_check_name)], ...],
        BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
        Field(max_length=50),
    ] = Field((), description="Other words and phrases for it.")

    @property
    def phrases(self) -> Iterator[tuple[str, ...]]:
        """Everything that names it, as `matching.words` gives it."""
        yield from dict.fromkeys(words(phrase) for phrase in (self.value, *self.words))


Options = Annotated[
    tuple[Annotated[Option, BeforeValidator(_value_alone, json_schema_input_type=str | Option)], ...],
    BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
]

MOST_OPTIONS = 9  # as many as there are keys to choose by

_FAR_ORDINALS = {"last": -1, "latter": -1, "former": 0}
_ORDINALS = {
    word: at for at, word in enumerate("first second third fourth fifth sixth seventh eighth ninth".split())
} | _FAR_ORDINALS
# Words beside a place in the list that say nothing of their own: "I'll take the second one, please."
_BESIDE_PLACE = frozenset(
    "a an the one option number choice answer press key i ill id would like want take prefer choose pick go "
    "with have my it its is that thats and please thanks thank you well um uh er oh so yes yeah okay ok sure "
    "no sorry actually then for me lets let us".split()
)
_NOT = frozenset("not isnt dont without".split())
_RATHER = (("instead", "of"), ("rather", "than"))
_SLIPS = tuple(
    tuple(slip.split())
    for slip in ("no", "sorry", "actually", "wait", "i mean", "i meant", "make it", "make that")
)
_NEGATED_WITHIN = 4  # words from a "not" to what it is about: "I don't want the van"


def options_problem(options: Sequence[Option]) -> str | None:
    """Why these cannot be told apart or are not to be chosen from; None: they can."""
    if not 2 <= len(options) <= MOST_OPTIONS:
        return f"a choice needs 2 to {MOST_OPTIONS} options, one for each key; there are {len(options)}"
    stands_for: dict[tuple[str, ...], str] = {}
    for option in options:
        for phrase in option.phrases:
            if phrase in stands_for:
                return f"{' '.join(phrase)!r} stands for {stands_for[phrase]!r} and for {option.value!r}"
            stands_for[phrase] = option.value
    return None


def chosen(options: Sequence[Option], said: str) -> str | None:
    """The value of the one option that is meant; None: none of them, or more than one.

    Of "not the sedan, the van" it is the van, of "the sedan, no, the van" as well. "The second one", "number
    two" and "the last" go by the order of the options.
    """
    heard = words(said)
    if (called := next((option for option in options if heard in option.phrases), None)) is not None:
        return called.value
    if heard[:1] in (("how",), ("why",)) or (heard[:1] == ("what",) and "about" not in heard):
        return None  # "How much is the van?" chooses nothing yet
    if not _mentions(options, heard):
        return _by_place(options, heard)
    return _by_name(options, heard)


def named(options: Sequence[Option], said: str) -> str | None:
    """As `chosen`, but by name alone: for words that answer another question."""
    return chosen(options, said) if _mentions(options, words(said)) else None


def _by_name(options: Sequence[Option], heard: Sequence[str]) -> str | None:
    named = _named(options, heard)
    if not named:
        return None
    values = dict.fromkeys(option.value for _, _, option in named)
    last = named[-1]
    if len(values) == 1 or _slips(heard[named[-2][1] : last[0]]):
        return last[2].value
    return None


def by_key(options: Sequence[Option], key: str) -> str | None:
    """The value that one pressed key stands for: the option that is called so, else the one at that place."""
    for option in options:
        if (key,) in option.phrases:
            return option.value
    at = int(key) if key.isdecimal() and key.isascii() else 0
    return options[at - 1].value if 1 <= at <= len(options) else None


def beside(options: Sequence[Option]) -> frozenset[str]:
    """Words that say no more than which option is meant."""
    own = {word for option in options for phrase in option.phrases for word in phrase}
    return frozenset(own | _BESIDE_PLACE | _ORDINALS.keys())


def listed(options: Sequence[Option]) -> str:
    """The options as one says them: "sedan, van or limousine"."""
    values = [option.value for option in options]
    return f"{', '.join(values[:-1])} or {values[-1]}"


_Mention = tuple[int, int, Option]  # from a word up to another


def _mentions(options: Sequence[Option], heard: Sequence[str]) -> list[_Mention]:
    """Where options are named, in order; of two at the same words the longer one: "extra large"."""
    phrases = [(phrase, option) for option in options for phrase in option.phrases]
    phrases.sort(key=lambda item: len(item[0]), reverse=True)
    found: list[_Mention] = []
    at = 0
    while at < len(heard):
        here = next(
            ((phrase, option) for phrase, option in phrases if _alike(heard[at : at + len(phrase)], phrase)),
            None,
        )
        if here is None:
            at += 1
            continue
        found.append((at, at + len(here[0]), here[1]))
        at += len(here[0])
    return found


def _alike(heard: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether these are the phrase's words, be the last one in the plural."""
    if len(heard) != len(phrase) or tuple(heard[:-1]) != tuple(phrase[:-1]):
        return False
    return heard[-1] == phrase[-1] or (len(phrase[-1]) > 2 and heard[-1] == phrase[-1] + "s")


def _named(options: Sequence[Option], heard: Sequence[str]) -> list[_Mention]:
    """The mentions that mean to have the option: not those of "not the van"."""
    meant: list[_Mention] = []
    before = 0
    for start, end, option in _mentions(options, heard):
        between = tuple(heard[max(before, start - _NEGATED_WITHIN) : start])
        before = end
        if not (_NOT.intersection(between) or any(_within(pair, between) for pair in _RATHER)):
            meant.append((start, end, option))
    return meant


def _slips(between: Sequence[str]) -> bool:
    return any(_within(slip, between) for slip in _SLIPS)


def _within(some: Sequence[str], heard: Sequence[str]) -> bool:
    return any(tuple(heard[at : at + len(some)]) == tuple(some) for at in range(len(heard)))


def _by_place(options: Sequence[Option], heard: Sequence[str]) -> str | None:
    places = [_ORDINALS[word] for word in heard if word in _ORDINALS]
    figures = [int(word) for word in heard if word.isdecimal()]
    others = [
        word for word in heard if not word.isdecimal() and word not in _ORDINALS and word not in _BESIDE_PLACE
    ]
    if others or len(places) > 1 or _NOT.intersection(heard):
        return None
    if places:  # "the first one": the figure is the noun
        return options[places[0]].value if places[0] < len(options) and set(figures) <= {1} else None
    if len(figures) != 1 or not 1 <= figures[0] <= len(options):
        return None
    return options[figures[0] - 1].value

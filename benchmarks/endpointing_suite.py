"""Who says what in the benchmark of endings: whole sentences, slow speakers, numbers, names."""

from __future__ import annotations

from dataclasses import dataclass

from backend.core.turns import Expects


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said in one turn; a "/" in the text is a pause."""

    text: str
    expects: Expects = "any"

    @property
    def parts(self) -> tuple[str, ...]:
        """What is said between the pauses."""
        return tuple(part.strip() for part in self.text.split("/"))


@dataclass(frozen=True, slots=True)
class Caller:
    """One person: a voice, a pace, and what they say."""

    kind: str
    sentences: tuple[Sentence, ...]
    pitch: float = 1.0
    speed: float = 1.0
    pause_ms: tuple[float, float] = (300.0, 800.0)


def _said(expects: Expects, *texts: str) -> tuple[Sentence, ...]:
    return tuple(Sentence(text, expects) for text in texts)


_COMPLETE = (
    _said(
        "any",
        "I would like to book an appointment, please.",
        "Can I speak to a human being?",
        "My tooth hurts.",
        "I need to move my appointment to Friday.",
        "What are your opening hours?",
        "I'd like to cancel.",
        "Do you take new patients?",
        "It is about my last bill.",
        "Hello, I have a question about insurance.",
        "Could you repeat that?",
    ),
    _said(
        "any",
        "How much is a cleaning?",
        "I am calling for my son.",
        "Is there anything earlier?",
        "Tomorrow afternoon would be great.",
        "Ten o'clock works for me.",
        "The address is twelve Maple Street.",
        "I have been waiting for a week.",
        "Please call me back.",
        "I forgot my password.",
        "That sounds good, thank you.",
    ),
    _said(
        "any",
        "No, that is all for today.",
        "I lost my card yesterday.",
        "We are four people.",
        "Where can I park?",
        "I want to talk about my order.",
        "The package never arrived.",
        "It stopped working this morning.",
        "I would prefer the morning.",
        "Send it to my office.",
        "Thanks for your help.",
    ),
    _said("date", "On Tuesday.", "Next Friday.", "The third of March.", "Tomorrow.", "In two weeks.")
    + _said("name", "Maria Jones.", "My name is Peter Miller.", "This is Anna Schmidt.", "John Smith."),
)
_YES_NO = _said(
    "yes_no",
    "Yes.",
    "No.",
    "Yes, please.",
    "No, thank you.",
    "Yeah, sure.",
    "That is correct.",
    "Okay.",
    "Right.",
    "No, it is not.",
    "Yes, that's right.",
    "Absolutely.",
    "I don't think so.",
)
_TRAILING = (
    _said(
        "any",
        "I would like to / book an appointment.",
        "My name is / Maria Jones.",
        "Can you tell me when the / office opens?",
        "I need it because / my passport expires.",
        "It was on Monday and / then again on Wednesday.",
        "I want to speak with / somebody in sales.",
    ),
    _said(
        "any",
        "Um / I have a question.",
        "I am calling about my / last invoice.",
        "I think it is / the blue one.",
        "Could I get a / table for two?",
        "We will be there at / half past seven.",
        "It should be under the name of / Miller.",
    ),
    _said(
        "any",
        "The problem is that / it does not start.",
        "I would like / a table for two.",
        "Is it possible to / pay by card?",
        "Well / I am not sure.",
        "I was wondering if / you had anything earlier.",
        "Let me see / it is on Friday.",
    ),
)
_DIGITS = (
    _said(
        "phone",
        "five five five / three one two / zero one nine nine",
        "three one two / five five five / oh one / nine nine",
    ),
    _said(
        "phone",
        "It is six four six / two nine eight / four four one two",
        "eight hundred / five five five / one two one two",
    ),
    _said("digits", "four seven / one two", "My code is nine nine / three", "one two three / four five six"),
    _said("any", "The order number is four five five / seven one nine", "It is six six two / eight"),
)
_NAMES = (
    _said("name", "M I / L L E R", "My name is Schmidt, S C H / M I D T", "Maria / Jones"),
    _said("name", "J O / N E S", "Peter / Miller, M I L / L E R"),
    _said("date", "March / the third", "On the third / of April", "Tuesday the / twenty first"),
)
_SLOW = (
    _said(
        "any",
        "I would like to make an appointment / with Doctor Lee / on Tuesday morning.",
        "I moved last year / to a new address / on Maple Street.",
        "My tooth has been hurting / since last Sunday / and it is getting worse.",
        "I can come on Monday / or on Wednesday / after four.",
        "You can reach me / at my office / until five.",
        "Thank you / that was very helpful.",
    ),
    _said(
        "any",
        "I have a question / about the bill / you sent me.",
        "It says two hundred dollars / but I paid / last week.",
        "I used my card / the one that ends / in four two.",
        "I would like / to have that checked / please.",
        "Somebody should call me / in the morning / before nine.",
        "That would be / very kind of you.",
    ),
    _said(
        "any",
        "We are coming / with six people / on Saturday.",
        "We would like to sit / near the window / if you can.",
        "One of us / does not eat meat / or fish.",
        "We will be there / around eight / or a little later.",
        "The name is / Johnson.",
        "That is / everything.",
    ),
)

CALLERS: tuple[Caller, ...] = (
    *(
        Caller("complete", some, (1.18, 0.85, 1.0, 1.35)[n], (1.0, 1.1, 0.95, 1.0)[n])
        for n, some in enumerate(_COMPLETE)
    ),
    Caller("yes_no", _YES_NO[:6], 1.18),
    Caller("yes_no", _YES_NO[6:], 0.85),
    *(Caller("trailing", some, (1.0, 1.25, 0.85)[n]) for n, some in enumerate(_TRAILING)),
    *(
        Caller("digits", some, (1.0, 1.2, 0.85, 1.1)[n], pause_ms=(300, 700))
        for n, some in enumerate(_DIGITS)
    ),
    *(Caller("names", some, (1.0, 1.2, 0.85)[n], pause_ms=(300, 700)) for n, some in enumerate(_NAMES)),
    *(Caller("slow", some, (1.0, 0.88, 1.2)[n], 0.85) for n, some in enumerate(_SLOW)),
)
"""Callers one after another; those of one kind differ in voice."""

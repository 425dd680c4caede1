"""Is the caller done? How long a silence must last after these words, from this caller, to this question.

Pure and by rule: words in, milliseconds out. Knows English; other languages get the plain wait.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Expects = Literal["any", "yes_no", "digits", "phone", "name", "date"]


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """How long to wait, in milliseconds. See `agents/agent.schema.json`, `turns`."""

    end_of_turn_ms: float = 320.0  # after what sounds like a complete sentence
    yes_no_ms: float = 240.0  # after a clear yes or no that was asked for
    incomplete_ms: float = 900.0  # after "the", "and", "my", …
    digits_ms: float = 1100.0  # while a number is being dictated or a name spelled
    pause_ms: float = 160.0  # silence after which the words so far are recognised, just in case
    min_speech_ms: float = 120.0  # speech that counts as an interruption
    barge_in: bool = True

    @property
    def unsure_ms(self) -> float:
        """After words that may be all or not: "I would like an appointment with Maria"."""
        return (self.end_of_turn_ms + self.incomplete_ms) / 2


# No sentence ends in these, not even a question.
_NEVER_LAST = frozenset(
    "a an the and or but because if than my your our their i i'm i'd i'll i've we we'll we're we've we'd he "
    "he's she she's they they're they'll they've they'd you're you've you'd you'll it's that's there's let's "
    "um uh er every mr mrs ms dr".split()
)
# A statement that ends in one of these goes on; a question may end so ("What is that for?").
_DANGLING = _NEVER_LAST | frozenset(
    "so to of for with at in on from by about as that which who when where his her its is are was were be am "
    "hmm like well maybe around can could would will let these those "
    "into onto until between during since after before without near under over through while unless "
    "although whether has have had having been being do does did should might must shall "
    "don't doesn't didn't can't couldn't won't wouldn't isn't aren't wasn't haven't "
    "another any some both either next last per plus also just really very quite actually basically".split()
)
# Words that want something after them when they end a turn that has a subject: "I want".
_WANTING = frozenset(
    "want wanted need needed book make take get give find bring send wanna gonna looking trying going "
    "wondering hoping use keep put set got called named prefer mean guess think".split()
)
_WHOLE_WITH_WANTING = frozenset(
    # "Tuesday, I think" is whole; and so may these be.
    ("i guess", "i think", "you mean")
)
_SUBJECTS = frozenset("i i'm we we're he he's she she's they they're it it's".split())
_QUESTION_FRONT = frozenset(
    "what where when why how who which do does did is are can could would will".split()
)
_YES_NO = frozenset(
    "yes yeah yep yup sure ok okay correct right no nope nah exactly absolutely definitely please".split()
)
_SHORT_ANSWERS = frozenset(
    "is are was were am do does did have has can could would will".split()
)  # "Yes I do."
_DIGIT_WORDS = dict.fromkeys("zero oh o one two three four five six seven eight nine double".split(), 1)
_DIGIT_WORDS["triple"] = 2  # "triple five": two words, three digits
# Only where digits were asked for: elsewhere "at ten thirty" is no dictation.
_NUMBER_WORDS = (
    _DIGIT_WORDS
    | dict.fromkeys(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen hundred".split(), 2
    )
    | dict.fromkeys("twenty thirty forty fifty sixty seventy eighty ninety".split(), 1)
)
_MONTHS = frozenset(
    "january february march april may june july august september october november december".split()
)
_ORDINAL = re.compile(
    r"\d+(st|nd|rd|th)?|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|"
    r"thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth"
)
_WORD = re.compile(r"[\w']+")
_LETTERS = re.compile(r"(?:\b[A-Za-z](?:[-–.\s,]+|$)){2,}$")  # "J-O-H-N.", "S M I"
_HALF_DAY = re.compile(r"\b[ap]\.?\s?m\.?\s*$", re.IGNORECASE)
# A time of day or a year: figures, but nobody dictates them one by one.
_IN_ONE_BREATH = re.compile(r"(?:\b\d{1,2}[:.]\d\d|(?<![\d-])(?<!\d\s)(?:19|20)\d\d)[.!]?\s*$")
_OPEN_END = re.compile(r"(?:,|\.\.\.|…|-|–|—|:)\s*$")
_PHONE_DIGITS = 10
_FEW_WORDS = 3
_NOT_DONE = 0.2  # how unlikely the end must be by the melody for it to count
_TELLING_WORDS = 5


def wait_ms(
    text: str, expects: Expects, policy: TurnPolicy, pace: float = 1.0, done: float | None = None
) -> float:
    """How long a silence after `text` must last before the turn is over.

    `pace`: this caller's pauses against most people's, see `backend.core.pauses`. `done`: how likely the
    melody makes it that they are (0 to 1), if somebody judged.
    """
    plain_ms = _plain_wait_ms(text, expects, policy)
    if done is not None:
        plain_ms = _heeding_melody_ms(plain_ms, done, policy)
    return plain_ms + (pace - 1.0) * policy.end_of_turn_ms


def _heeding_melody_ms(plain_ms: float, done: float, policy: TurnPolicy) -> float:
    """A melody that goes on makes whole words doubtful. One that ends settles nothing: to be quicker on its
    word cut more callers off, see `benchmarks/LOG.md`."""
    if plain_ms == policy.end_of_turn_ms and done <= _NOT_DONE:
        return policy.unsure_ms
    return plain_ms


def _plain_wait_ms(text: str, expects: Expects, policy: TurnPolicy) -> float:
    words = spoken_words(text)
    if not words:
        return policy.end_of_turn_ms
    if (dictation := _dictation_ms(text, words, expects, policy)) is not None:
        return dictation
    if expects == "yes_no" and len(words) <= _FEW_WORDS and _YES_NO.intersection(words):
        return policy.yes_no_ms
    if text.rstrip().endswith("?"):
        return policy.incomplete_ms if words[-1] in _NEVER_LAST else policy.end_of_turn_ms
    if words[0] in _YES_NO and len(words) <= _TELLING_WORDS and words[-1] in _SHORT_ANSWERS:
        return policy.end_of_turn_ms
    if expects != "yes_no" and (words[-1] in _DANGLING or (expects == "date" and _wants_day(words))):
        return policy.incomplete_ms
    if _is_open(text, words, expects):
        return policy.unsure_ms
    return policy.end_of_turn_ms


def is_statement(text: str, expects: Expects) -> bool:
    """Whether that is a sentence of some length, no question: slow callers often add to one."""
    words = spoken_words(text)
    asks = text.rstrip().endswith("?") or not words or words[0] in _QUESTION_FRONT
    return expects == "any" and not asks and len(words) >= _TELLING_WORDS


def spoken_words(text: str) -> list[str]:
    """Lower case, no punctuation."""
    return _WORD.findall(text.lower().replace("’", "'"))


def _dictation_ms(text: str, words: list[str], expects: Expects, policy: TurnPolicy) -> float | None:
    """The wait within figures or letters that are given one by one; None when there are none."""
    dictated = expects in ("digits", "phone")
    counts = [_digit_count(word, _NUMBER_WORDS if dictated else _DIGIT_WORDS) for word in words]
    digits, last_is_digit = sum(counts), counts[-1] > 0
    if dictated and last_is_digit:
        first = next(word for word, count in zip(words, counts, strict=True) if count)
        wanted = _PHONE_DIGITS + (first == "one" or first.startswith("1"))  # no area code begins with 1
        complete = expects == "phone" and digits >= wanted
        return policy.end_of_turn_ms if complete else policy.digits_ms
    if last_is_digit and digits >= 3 and not _IN_ONE_BREATH.search(text):
        return policy.digits_ms
    if _LETTERS.search(text.strip().rstrip(".")) and not _HALF_DAY.search(text):
        return policy.digits_ms
    return None


def _wants_day(words: list[str]) -> bool:
    """Whether a month is named and no day yet."""
    return words[-1] in _MONTHS and not any(_ORDINAL.fullmatch(word) for word in words)


def _is_open(text: str, words: list[str], expects: Expects) -> bool:
    """Whether words that could be all would well bear more."""
    if expects == "name" and len(words) == 1 and words[0] not in _YES_NO:
        return True  # a first name; the family name may follow
    if expects == "date" and len(words) == 1 and _ORDINAL.fullmatch(words[0]):
        return True
    if _OPEN_END.search(text) and expects != "yes_no":
        return True
    if len(words) < 2 or expects == "yes_no" or words[0] in _QUESTION_FRONT:
        return False
    if words[-1].endswith("ing") and len(words) <= _FEW_WORDS and words[0] in _SUBJECTS:
        return True  # "We are coming": where, when?
    return words[-1] in _WANTING and " ".join(words[-2:]) not in _WHOLE_WITH_WANTING


def _digit_count(word: str, number_words: dict[str, int]) -> int:
    return len(word) if word.isdecimal() else number_words.get(word, 0)

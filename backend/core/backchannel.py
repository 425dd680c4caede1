"""Was that an answer, or only "uh-huh": a sign of listening that leaves the floor to the speaker? Pure."""

from __future__ import annotations

from backend.core.endpointing import Expects, spoken_words

MOST_WORDS = 3
LONGEST_MS = 1_200.0  # of sound: what takes longer is meant

# As recognisers spell them. "You" is what they hear in a hum.
_NOISES = frozenset(
    "uh huh hmm hm mm mmm mhm mhmm mmhm mmhmm uhhuh uhuh ah aha oh ooh um er hum eh ho ha ma hah uhm umm mom "
    "mum you ahh ohh mmhmmm hmmm".split()
)
_AGREEING = frozenset("yeah yes yep yup okay ok kay right sure alright good great fine cool nice".split())
_PHRASES = frozenset(
    (
        "i see", "got it", "all right", "of course", "oh okay", "oh i see", "makes sense", "very good",
        "oh good", "oh great", "okay great", "sounds good", "go on", "i know", "mm hmm", "uh huh", "i got it",
        "that's right", "that's fine", "no problem", "thank you", "thanks", "okay thanks",
        "okay thank you",
    )
)  # fmt: skip


_ASKING_YES_NO = frozenset(
    "is are am was were do does did have has can could would will shall should may".split()
)


def is_backchannel(text: str, spoke_ms: float) -> bool:
    """Whether these words, said over the agent within `spoke_ms` of sound, only say "I am listening"."""
    words = spoken_words(text.replace("-", " "))
    if not words or len(words) > MOST_WORDS or spoke_ms > LONGEST_MS:
        return False
    if all(word in _NOISES for word in words):
        return True
    if text.rstrip().endswith("?"):
        return False
    return " ".join(words) in _PHRASES or all(word in _NOISES or word in _AGREEING for word in words)


def answers(text: str, expects: Expects, heard: str, script: str) -> bool:
    """Whether a back-channel answers after all: a yes or no was asked for, and the question has begun.

    `script`: what the agent is saying, `heard`: what of it was heard when the caller spoke.
    """
    question = _last_question(script)
    if question is None or not spoken_words(text):
        return False
    return (expects == "yes_no" or question[1] in _ASKING_YES_NO) and has_asked(heard, script)


def has_asked(heard: str, script: str) -> bool:
    """Whether the caller has begun to hear the last question of what the agent is saying."""
    question = _last_question(script)
    return question is not None and len(heard.split()) > question[0]


def _last_question(script: str) -> tuple[int, str] | None:
    """How many words come before the last question, and its first word; None when none is asked."""
    words = [word.rstrip("\"')”’").lower() for word in script.split()]
    begins, question = 0, None
    for index, word in enumerate(words):
        if word.endswith("?"):
            question = begins, words[begins].strip(",?")
        if word.endswith((".", "!", "?")):
            begins = index + 1
    return question

"""What is to be spoken, decided from the text alone: its parts, how long each may take, its randomness.

Pure: knows no model, no clock and no voice.
"""

from __future__ import annotations

import math
import re

from runpod_server.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ

FRAME_MS = FRAME_SAMPLES * 1000 // SAMPLE_RATE_HZ
PART_CHARS = 240  # some 16 s of speech: the model was made for turns of that length

_GRACE_MS = 3000  # to breathe in, and for the shortest texts
_MS_PER_BYTE = 120  # of UTF-8; unhurried English takes 70, and a sign of three bytes is a syllable
_MS_PER_DIGIT = 400  # "7" is read "seven"
_CLOSING = "\"'”’)\\]»"
_BLANKS = re.compile(r"\s+")
_SENTENCE_END = re.compile(rf"(?<=[.!?…])[{_CLOSING}]*[ \n]|(?<=[。！？])|\n")  # of text with single blanks
_ABBREVIATION = re.compile(
    r"\b(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|inc|no|e\.g|i\.e|a\.m|p\.m|[a-z])\.$", re.IGNORECASE
)
_ABBREVIATION_CHARS = 12  # more than the longest, and the sign before it
_CUTS = (re.compile(r"(?<=[,;:–—])\s+"), re.compile(r"\s+"))
_SPEAKABLE = re.compile(r"[^\W_]")
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**63 - 1


def is_speakable(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return _SPEAKABLE.search(text) is not None


def frame_limit(text: str) -> int:
    """The most frames a text can reasonably take: CSM does not always find its end by itself."""
    digits = sum(sign.isdecimal() for sign in text)
    ms = _GRACE_MS + _MS_PER_BYTE * len(text.encode(errors="replace")) + _MS_PER_DIGIT * digits
    return math.ceil(ms / FRAME_MS)


def parts_of(text: str, *, most_chars: int = PART_CHARS) -> list[str]:
    """A text in parts of up to `most_chars`, cut between sentences where possible, else at commas or spaces.

    A text that needs no cutting comes back as it is; else the parts' words in order are the text's. What no
    voice can say, such as a row of emoji, is never a part of its own: where it does not fit it is left out.
    Takes time in proportion to the text: it runs on the event loop.
    """
    if len(text) <= most_chars:
        return [text]
    parts: list[str] = []
    for sentence in _sentences(text):
        for piece in _short_enough(sentence, most_chars):
            if parts and len(parts[-1]) + 1 + len(piece) <= most_chars:
                parts[-1] += " " + piece
            elif is_speakable(piece):
                parts.append(piece)
    return parts


def seed_of_part(seed: int, part: int) -> int:
    """A seed for each part of an utterance, the first part's its own: equal noise would rhyme."""
    return (seed + part * _GOLDEN) & _MASK


def _sentences(text: str) -> list[str]:
    sentences, start = [], 0
    text = _BLANKS.sub(lambda blanks: "\n" if "\n" in blanks.group() else " ", text.strip())
    for match in _SENTENCE_END.finditer(text):
        before = text[max(start, match.start() - _ABBREVIATION_CHARS) : match.start()]
        if "\n" not in match.group() and _ABBREVIATION.search(before):
            continue
        sentences.append(text[start : match.end()])
        start = match.end()
    sentences.append(text[start:])
    folded = (" ".join(sentence.split()) for sentence in sentences)
    return [sentence for sentence in folded if sentence]


def _short_enough(sentence: str, most_chars: int) -> list[str]:
    pieces = []
    while len(sentence) > most_chars:
        cut = _cut_before(sentence, most_chars)
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence] if sentence else pieces


def _cut_before(sentence: str, most_chars: int) -> int:
    """Where to cut: at the last comma that leaves no stub, else at the last space, else anywhere."""
    window = sentence[: most_chars + 1]
    for cuts, shortest in zip(_CUTS, (most_chars // 3, 1), strict=True):
        places = [match.start() for match in cuts.finditer(window) if match.start() >= shortest]
        if places:
            return places[-1]
    return most_chars

"""English: telephone numbers, e-mail addresses and addresses of the net, as one reads them aloud."""

from __future__ import annotations

import re

from backend.core.spoken.figures import digits

_MOST_CHARS = 90  # of what is said: some six seconds
_EXT = r"(?:,? ?(?:ext\.?|x|extension) ?(?P<ext>[0-9]{1,6}))?"
PHONE = re.compile(
    r"(?P<number>"
    r"\+1[ .-]?\(?[0-9]{3}\)?[ .-]?[0-9]{3}[ .-]?[0-9]{4}"
    r"|\+[0-9]{7,15}|\+[0-9]{1,3}(?:(?:[ .-]?\(|[ .-])[0-9]{1,5}\)?){2,6}"
    r"|(?:1[ .-]?)?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"
    r"|1[ .-]8[0-9]{2}[ .-][0-9]{3}[ .-][0-9]{4}"
    r"|[0-9]{3}-[0-9]{4}|[0-9]{4}(?: [0-9]{4}){2,3}"
    r"|0[0-9]{2,4}[ -][0-9]{3,4}[ -]?[0-9]{3,4}"
    rf"){_EXT}"
)
EMAIL = re.compile(
    r"(?P<user>[A-Za-z0-9_.+-]{1,64})@(?P<host>[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5})"
)
_TLDS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|co|us|uk|ca|au|de|fr|es|it|nl|eu|ch|at|se|no|dk|in|jp|"
    "me|tv|health|shop|online|store|tech|xyz|example|test"
)
URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z]{2,6}://)|(?P<www>www\.))?(?P<host>[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,5})"
    r"(?::[0-9]{1,5})?(?P<path>[/?#][^\s]*)?"
)
_KNOWN_HOST = re.compile(rf"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:{_TLDS})\Z")
_GROUPS = re.compile(r"[0-9]+")
_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|.", re.DOTALL)
_SIGNS = {".": "dot", "-": "dash", "_": "underscore", "+": "plus", "/": "slash", "@": "at", "~": "tilde"}
_SPELLED = frozenset("us uk eu tv io ai de fr nl ch pdf html php".split())


def phone(match: re.Match[str]) -> str | None:
    """ "plus one, five five five, one two three, …": the groups as written, pauses between."""
    groups = _GROUPS.findall(match["number"])
    if not 7 <= sum(map(len, groups)) <= 16:
        return None
    if len(groups) == 1:  # all in one
        groups = _split(groups[0])
    said = ", ".join(digits(group) for group in groups)
    said = f"plus {said}" if match["number"].startswith("+") else said
    return f"{said}, extension {digits(match['ext'])}" if match["ext"] else said


def _split(number: str) -> list[str]:
    if len(number) == 11 and number[0] == "1":
        return [number[0], number[1:4], number[4:7], number[7:]]
    return [number[:2], *(number[at : at + 3] for at in range(2, len(number), 3))]


def email(match: re.Match[str]) -> str:
    """ "jane dot doe at example dot com" """
    return f"{_spell_out(match['user'])} at {_spell_out(match['host'])}"


def url(match: re.Match[str]) -> str | None:
    """ "example dot com slash help"; what follows "?" or "#" is not said, nor the end of a long path."""
    host = match["host"]
    if not (match["scheme"] or match["www"] or _KNOWN_HOST.match(host)):
        return None
    path = re.split(r"[?#]", match["path"] or "", maxsplit=1)[0].strip("/.,!?;:…)\"'”’»]")
    said = _spell_out(host.removeprefix("www."))
    for part in path.split("/"):
        more = _spell_out(part[:40])
        if not more or len(said) + len(more) > _MOST_CHARS:
            break
        said = f"{said} slash {more}"
    return said


def _spell_out(text: str) -> str:
    said = []
    for part in _PARTS.findall(text):
        if part.isdigit():
            said.append(digits(part[:16]))
        elif part.lower() in _SPELLED:
            said.append(" ".join(part.upper()))
        else:
            said.append(_SIGNS.get(part, part if part.isalnum() else ""))
    return " ".join(filter(None, said))

"""English words that are not said as they are spelled: abbreviations, initialisms, units, symbols."""

from __future__ import annotations

import re

ABBREVIATIONS = {
    "mr": "Mister", "mrs": "Missus", "ms": "Miz", "dr": "Doctor", "prof": "Professor", "jr": "Junior",
    "sr": "Senior", "rev": "Reverend", "hon": "Honorable", "gen": "General", "capt": "Captain",
    "sgt": "Sergeant", "lt": "Lieutenant", "sen": "Senator", "gov": "Governor",
    "st": "Saint", "ave": "Avenue", "rd": "Road", "blvd": "Boulevard", "ln": "Lane", "hwy": "Highway",
    "apt": "Apartment", "ste": "Suite", "mt": "Mount",
    "inc": "Incorporated", "ltd": "Limited", "co": "Company", "corp": "Corporation", "dept": "Department",
    "etc": "et cetera", "e.g": "for example", "eg": "for example", "i.e": "that is", "ie": "that is",
    "vs": "versus", "approx": "approximately", "ext": "extension", "fig": "figure", "vol": "volume",
    "no": "number", "nos": "numbers", "tel": "telephone", "govt": "government", "est": "established",
    "misc": "miscellaneous", "a.k.a": "also known as",
    "jan": "January", "feb": "February", "mar": "March", "apr": "April", "jun": "June", "jul": "July",
    "aug": "August", "sep": "September", "sept": "September", "oct": "October", "nov": "November",
    "dec": "December", "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday",
    "thu": "Thursday", "thur": "Thursday", "thurs": "Thursday", "fri": "Friday",
    "u.s": "U S", "u.k": "U K", "u.s.a": "U S A", "d.c": "D C", "p.s": "P S", "a.m": "a m", "p.m": "p m",
}  # fmt: skip
"""Before a full stop."""
MEANT_BEFORE_A_FIGURE = frozenset("no nos ext fig vol".split())
NAMED_AFTER = frozenset(
    "mr mrs ms dr prof rev hon gen capt sgt lt sen gov mt e.g eg i.e ie vs approx".split()
)
"""Never the end of a sentence: what they belong to follows."""
CAPITALISED_ONLY = frozenset(
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri st mt gen sen hon "
    "rev gov co est capt lt".split()
)
BARE_ABBREVIATIONS = {
    "50/50": "fifty fifty",
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "w/": "with", "w/o": "without",
    "c/o": "care of", "n/a": "N A", "and/or": "and or", "he/she": "he or she", "she/he": "she or he",
    "his/her": "his or her", "him/her": "him or her", "they/them": "they them", "s/he": "she or he",
    "24/7": "twenty-four seven", "9/11": "nine eleven", "c#": "C sharp", "f#": "F sharp",
    "c++": "C plus plus", "ok": "okay", "Mr": "Mister", "Mrs": "Missus", "Dr": "Doctor", "Nov": "November",
    "Sept": "September",
    "Oct": "October", "Feb": "February", "Aug": "August", "Mon": "Monday", "Tue": "Tuesday",
    "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thurs": "Thursday", "Fri": "Friday",
}  # fmt: skip
"""Without a full stop; in lower case for any case, else as it stands."""

MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DAYS = {name: day for day in _DAYS for name in (day, day[:3], day[:4], day[:5])}
CALENDAR_WORDS = frozenset([*MONTHS, *_DAYS, *(m[:3] for m in MONTHS), *(d[:3] for d in _DAYS), "Sept"])

SPELLED = frozenset(
    "FBI USA US CIA IRS IBM API URL ATM EU UK UN AI ID IP CEO CFO CTO COO HIV UPS USB GPU CPU IVR FAQ ETA "
    "DIY DOB NGO VIP IPO ISO IQ EKG ECG ICU MRI IUD EMT ADHD BMI APR RSVP UI UX OS AC EV SUV HOA APA ABC NBA "
    "UFO USD EUR AUD LAX UCLA MBA QA".split()
)
"""Besides those without a vowel."""
READ_AS_WORDS = frozenset(
    "MR MRS MS DR ST TRY MY BY WHY FLY SHY CRY DRY SKY HMM SHH PSST NTH TH HM PST".split()
)
CODE_WORDS = frozenset(
    "code codes pin passcode password passwords extension ext zip otp confirmation order ticket reference "
    "ref tracking account acct case invoice policy member membership booking reservation serial ending id "
    "card flight claim routing customer".split()
)
"""Figures after these are said digit by digit."""

UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "mi": "mile", "ft": "foot",
    "yd": "yard", "kg": "kilogram", "g": "gram", "mg": "milligram", "mcg": "microgram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter",
    "GB": "gigabyte", "MB": "megabyte", "KB": "kilobyte", "kB": "kilobyte", "TB": "terabyte",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "kbps": "kilobit per second",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "W": "watt",
    "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt", "mAh": "milliamp hour",
    "mph": "mile per hour", "km/h": "kilometer per hour", "kph": "kilometer per hour",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "sec": "second", "secs": "second",
    "s": "second", "ms": "millisecond", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour",
    "hrs": "hour", "px": "pixel", "pts": "point", "sqft": "square foot", "dB": "decibel",
    "kcal": "kilocalorie", "x": "time", "k": "thousand", "K": "thousand", "M": "million", "bn": "billion",
    "B": "billion", "million": "million", "billion": "billion", "trillion": "trillion",
    "thousand": "thousand",
}  # fmt: skip
ATTACHED_ONLY = frozenset("s h x k K M B V W L l °".split())
SCALES = frozenset("thousand million billion trillion".split())
_ONE_FORM = frozenset("thousand million billion trillion hertz kilohertz megahertz gigahertz".split())

CURRENCIES = {
    "$": ("dollar", "cent"), "US$": ("dollar", "cent"), "A$": ("Australian dollar", "cent"),
    "C$": ("Canadian dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", ""),
    "₹": ("rupee", "paisa"),
    "USD": ("dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "penny"),
}  # fmt: skip
_PLURALS = {
    "foot": "feet", "penny": "pence", "paisa": "paise", "yen": "yen", "square foot": "square feet",
    "degree Celsius": "degrees Celsius", "degree Fahrenheit": "degrees Fahrenheit",
}  # fmt: skip

STARTERS = frozenset(
    "We The It You I This That These Those He She They Please If Our Your There What When Where How Why Who "
    "Would Can Could Do Does Is Are Thank Thanks Then And But So My In At For To Let Also However Yes No Not "
    "Call Press Say Just Is Was Have Has After Before Next".split()
)
"""Words a sentence begins with: after "etc." or "Inc." they tell that one has ended."""

EMOTICON = re.compile(r"(?:[:;=]['-]?[)(DPpOo|/\\3*]+|<3+|\^_?\^|[xX]D|:-?\[)\Z")


def unit(name: str, *, one: bool) -> str:
    """A unit in words: "kilometer" or "kilometers", "mile per hour" or "miles per hour"."""
    word = UNITS[name]
    return word if one or word in _ONE_FORM else plural(word)


def plural(word: str) -> str:
    """More than one of it."""
    head, per, tail = word.partition(" per ")
    return (_PLURALS.get(head) or f"{head}s") + per + tail

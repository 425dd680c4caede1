"""People are talked to, machines are left one message, however word of them comes."""

from __future__ import annotations

from itertools import permutations

import pytest

from backend.core.voicemail import EVENTS, HangUp, Hush, LeaveMessage, MachineWatch, Order, detection

DETECTED, GREETED = "call.machine.detection.ended", "call.machine.greeting.ended"
PREMIUM, PREMIUM_GREETED = "call.machine.premium.detection.ended", "call.machine.premium.greeting.ended"


def test_what_is_asked_of_the_carrier() -> None:
    assert detection(wanted=False, message=True) is None
    assert detection(wanted=True, message=True) == "greeting_end"
    assert detection(wanted=True, message=False) == "detect"


@pytest.mark.parametrize(
    ("event", "result", "who"),
    [
        (DETECTED, "human", "human"),
        (PREMIUM, "human_residence", "human"),
        (PREMIUM, "human_business", "human"),
        (DETECTED, "not_sure", "unknown"),
        (PREMIUM, "silence", "unknown"),
        (PREMIUM, "something_new", "unknown"),
        (DETECTED, None, "unknown"),
    ],
)
def test_people_and_doubts_are_talked_to(event: str, result: str | None, who: str) -> None:
    watch = MachineWatch(message=True)
    assert watch.told(event, result) == []
    assert (watch.answered_by, watch.voicemail, watch.hushed) == (who, None, False)


@pytest.mark.parametrize(("first", "then"), [(DETECTED, GREETED), (PREMIUM, PREMIUM_GREETED)])
def test_a_machine_is_waited_for_and_left_the_message(first: str, then: str) -> None:
    watch = MachineWatch(message=True)
    assert watch.told(first, "machine") == [Hush()]
    assert (watch.hushed, watch.due, watch.voicemail) == (True, False, "waiting")
    assert watch.told(then, "beep_detected") == [LeaveMessage()]
    assert (watch.due, watch.voicemail) == (True, "leaving")
    assert watch.said(whole=True) == [HangUp("the message is left")]
    assert (watch.answered_by, watch.voicemail) == ("machine", "left")


def test_any_order_and_everything_twice_leaves_one_message() -> None:
    told = [(DETECTED, "machine"), (GREETED, "ended"), (DETECTED, "machine"), (GREETED, "ended")]
    for order in permutations(told):
        watch = MachineWatch(message=True)
        orders: list[Order] = [made for event, result in order for made in watch.told(event, result)]
        assert orders == [Hush(), LeaveMessage()], order
        assert watch.answered_by == "machine"


def test_a_greeting_without_end_is_spoken_to_in_the_end() -> None:
    watch = MachineWatch(message=True)
    assert watch.waited() == []
    watch.told(DETECTED, "machine")
    assert watch.waited() == [LeaveMessage()]
    assert watch.waited() == []
    assert watch.told(GREETED, "beep_detected") == []


def test_without_a_message_a_machine_is_hung_up_on_once() -> None:
    watch = MachineWatch(message=False)
    assert watch.told(DETECTED, "machine") == [HangUp("an answering machine picked up")]
    assert watch.told(DETECTED, "machine") == []
    assert watch.told(GREETED, "ended") == []
    assert (watch.answered_by, watch.voicemail, watch.hushed) == ("machine", "none", True)


def test_a_fax_is_hung_up_on() -> None:
    watch = MachineWatch(message=True)
    assert watch.told(PREMIUM, "fax_detected") == [HangUp("a fax machine picked up")]
    assert watch.told(PREMIUM, "fax_detected") == []
    assert (watch.answered_by, watch.voicemail) == ("fax", None)


def test_a_person_stays_one_and_a_doubt_may_be_settled() -> None:
    person = MachineWatch(message=True)
    person.told(DETECTED, "human")
    assert person.told(DETECTED, "machine") == []
    assert person.told(PREMIUM_GREETED, "beep_detected") == []
    assert person.answered_by == "human"
    doubt = MachineWatch(message=True)
    doubt.told(PREMIUM, "not_sure")
    assert doubt.told(PREMIUM_GREETED, "beep_detected") == [Hush(), LeaveMessage()]


def test_a_message_that_cannot_be_said() -> None:
    watch = MachineWatch(message=True)
    assert watch.said(whole=True) == []
    watch.told(GREETED, "ended")
    assert watch.said(whole=False) == [HangUp("the message could not be said")]
    assert watch.voicemail == "failed"


def test_the_events() -> None:
    assert len(EVENTS) == 4

"""A call's life as decisions: in every order of events it ends once, and never waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.call import (
    STREAMING_TRIES,
    Answer,
    CallMachine,
    Command,
    Finish,
    HangUp,
    StartStreaming,
)
from backend.core.records import Direction

EVENTS: dict[str, Callable[[CallMachine], list[Command]]] = {
    "dialled": CallMachine.dialled,
    "answered": CallMachine.answered,
    "media_attached": CallMachine.media_attached,
    "media_lost": CallMachine.media_lost,
    "streaming_failed": CallMachine.streaming_failed,
    "timed_out": CallMachine.timed_out,
    "hang_up": lambda machine: machine.hang_up("asked for"),
    "gone": CallMachine.gone,
    "handed_over": CallMachine.handed_over,
    "hung_up": lambda machine: machine.hung_up("normal_clearing", "caller"),
    "failed": lambda machine: machine.failed("dial_failed"),
}
LIFE = [name for name in EVENTS if name not in ("hung_up", "failed")]
directions = st.sampled_from(["inbound", "outbound"])


def begun(direction: Direction) -> CallMachine:
    machine = CallMachine(direction)
    machine.rang()
    return machine


def inbound_in_progress() -> CallMachine:
    machine = begun("inbound")
    machine.answered()
    machine.media_attached()
    return machine


@given(directions, st.lists(st.sampled_from(sorted(EVENTS))))
def test_the_end_is_final_and_told_once(direction: Direction, happened: list[str]) -> None:
    machine = begun(direction)
    finishes = 0
    for name in happened:
        was_over, state = machine.over, machine.state
        orders = EVENTS[name](machine)
        if was_over:
            assert orders == []
            assert machine.state == state
        finishes += sum(isinstance(order, Finish) for order in orders)
        assert finishes == machine.over
        if machine.over:
            assert isinstance(orders[-1] if orders else Finish("ended", None, None), Finish)


@given(directions, st.lists(st.sampled_from(sorted(EVENTS)), max_size=60))
def test_streaming_is_asked_for_a_bounded_number_of_times_in_a_row(
    direction: Direction, happened: list[str]
) -> None:
    machine = begun(direction)
    in_a_row = 0
    hanging_up = False
    for name in happened:
        in_a_row = 0 if name == "media_attached" else in_a_row
        for order in EVENTS[name](machine):
            if isinstance(order, StartStreaming):
                in_a_row += 1
                assert order.attempt == in_a_row <= STREAMING_TRIES
                assert not hanging_up, "nobody asks for media of a call that is being ended"
        hanging_up = hanging_up or name in ("hang_up", "gone")


@given(directions, st.lists(st.sampled_from(LIFE)))
def test_a_call_is_hung_up_at_most_once(direction: Direction, happened: list[str]) -> None:
    machine = begun(direction)
    orders = [order for name in happened for order in EVENTS[name](machine)]
    assert sum(isinstance(order, HangUp) for order in orders) <= 1


@given(directions, st.lists(st.sampled_from(LIFE)))
def test_with_nothing_more_coming_a_call_ends_in_bounded_time(
    direction: Direction, happened: list[str]
) -> None:
    """Unless its media flows: then that is what it waits on, and the socket's end is told."""
    machine = begun(direction)
    for name in happened:
        EVENTS[name](machine)
    machine.media_lost()
    for _ in range(STREAMING_TRIES + 3):
        if machine.over:
            return
        patience_s = machine.patience_s
        assert patience_s is not None
        assert patience_s > 0
        machine.timed_out()
    assert machine.over


@given(directions, st.lists(st.sampled_from(LIFE)))
def test_only_flowing_media_is_waited_on_for_ever(direction: Direction, happened: list[str]) -> None:
    machine = begun(direction)
    media = False
    for name in happened:
        EVENTS[name](machine)
        media = {"media_attached": True, "media_lost": False}.get(name, media)
        if machine.patience_s is None:
            assert media
            assert machine.state == "in_progress"


def test_an_inbound_call_from_ring_to_end() -> None:
    machine = CallMachine("inbound")
    assert machine.rang() == [Answer()]
    assert machine.answered() == [StartStreaming(1)]
    assert machine.media_attached() == []
    assert (machine.state, machine.patience_s) == ("in_progress", None)
    assert machine.hung_up("normal_clearing", "caller") == [Finish("ended", "normal_clearing", "caller")]
    assert machine.over


def test_an_outbound_call_answers_nothing() -> None:
    machine = CallMachine("outbound")
    assert machine.rang() == []
    assert machine.state == "queued"
    assert machine.dialled() == []
    assert machine.state == "ringing"
    assert machine.answered() == [StartStreaming(1)]


def test_the_answer_may_overtake_the_dial() -> None:
    machine = CallMachine("outbound")
    assert machine.answered() == [StartStreaming(1)]
    assert machine.dialled() == []
    assert machine.state == "answered"


def test_a_second_answer_starts_nothing() -> None:
    machine = inbound_in_progress()
    assert machine.answered() == []
    assert machine.state == "in_progress"


def test_a_lost_socket_is_asked_for_again_when_no_hang_up_follows() -> None:
    machine = inbound_in_progress()
    assert machine.media_lost() == []
    assert machine.patience_s is not None
    assert machine.patience_s < 3
    assert machine.timed_out() == [StartStreaming(1)]
    assert machine.media_attached() == []
    assert machine.patience_s is None


def test_a_lost_socket_because_of_a_hang_up_keeps_the_true_cause() -> None:
    machine = inbound_in_progress()
    machine.media_lost()
    assert machine.hung_up("normal_clearing", "caller") == [Finish("ended", "normal_clearing", "caller")]


def test_a_command_that_came_too_late_waits_for_the_hang_up_event() -> None:
    machine = inbound_in_progress()
    machine.media_lost()
    machine.timed_out()
    assert machine.gone() == []
    assert machine.patience_s is not None
    assert machine.hung_up("busy", "callee") == [Finish("ended", "busy", "callee")]


def test_media_that_never_comes_ends_in_a_hang_up() -> None:
    machine = begun("inbound")
    asked = machine.answered()
    while not isinstance(asked[0], HangUp):
        asked = machine.streaming_failed()
    assert "media" in asked[0].reason
    assert machine.streaming_failed() == []
    assert machine.timed_out() == [Finish("ended", "no_hangup_event", "backend")]


@pytest.mark.parametrize("word_of_it", [CallMachine.dialled, CallMachine.answered])
def test_a_hang_up_before_the_dial_is_taken_waits_for_the_call_to_have_a_name(
    word_of_it: Callable[[CallMachine], list[Command]],
) -> None:
    """There is nothing to hang up on yet, but the telephone may still ring."""
    machine = CallMachine("outbound")
    assert machine.hang_up("changed our mind") == []
    assert not machine.over
    assert word_of_it(machine) == [HangUp("changed our mind")]
    assert machine.answered() == []


def test_answered_while_hanging_up_starts_no_media() -> None:
    machine = CallMachine("outbound")
    machine.dialled()
    assert machine.hang_up("enough") == [HangUp("enough")]
    assert machine.answered() == []


def test_a_transferred_call_is_left_alone_until_it_ends() -> None:
    machine = inbound_in_progress()
    assert machine.handed_over() == []
    assert machine.media_lost() == []
    patience_s: Any = machine.patience_s
    assert patience_s >= 14_400
    assert machine.streaming_failed() == []
    assert machine.hung_up("normal_clearing", "callee") == [Finish("ended", "normal_clearing", "callee")]


def test_a_transferred_call_can_still_be_hung_up() -> None:
    machine = inbound_in_progress()
    machine.handed_over()
    assert machine.hang_up("asked for") == [HangUp("asked for")]


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_silence_from_the_carrier_is_given_up_on_with_a_reason(direction: Direction) -> None:
    machine = begun(direction)
    machine.dialled()
    (order,) = machine.timed_out()
    assert isinstance(order, HangUp)
    assert "ringing" in order.reason

"""The agents that come with the project: sound, and walked through as a caller would."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.steps import Hangup, Step, Transfer
from backend.storage.agent_files import AgentFiles

DIR = Path(__file__).parents[2] / "agents"
HUMAN = "+15550100099"


@pytest.fixture(scope="module")
def files() -> AgentFiles:
    found = AgentFiles(DIR)
    found.load()
    return found


@pytest.fixture
def desk(files: AgentFiles) -> Agent:
    found = files.get("8015d274-4291-432a-acba-fcac59fac97b")
    assert found
    return found


def spoken(flow: Flow, *said: str) -> Step:
    """Say one thing after another; a thing of digits only is pressed."""
    step = flow.start()
    for text in said:
        if text.strip("0123456789#") == "":
            pressed = flow.digits(text)
            assert pressed, f"{text} is not enough"
            step = pressed
        else:
            step = flow.heard(text)
        while step.listen is None and not step.ends_call:
            step = flow.proceed()
    return step


def test_they_are_sound(files: AgentFiles) -> None:
    assert files.problems == [] and files.warnings == []
    assert {agent.id for agent in files.all()} == {"8015d274-4291-432a-acba-fcac59fac97b", "reminder"}


def test_the_front_desk_answers_its_number(files: AgentFiles, desk: Agent) -> None:
    assert files.by_number("+15550100001") is desk
    assert desk.tts_provider == "sesame" and desk.use_websocket_tts


# As the recogniser writes it, mistakes included.
BOOKING = ("I'd like to book an appointment, please.", "Tuesday would be good.", "in the afternoon, please.")


@pytest.mark.parametrize("name", ["My name is Sarah Miller.", "It's Sarah Miller.", "Sarah Miller."])
@pytest.mark.parametrize("number", ["2125550142", "My number is 212-555-0142.", "212. 555. 0142"])
@pytest.mark.parametrize("yes", ["1", "Yes, that's right", "Yeah."])
def test_an_appointment_is_booked(desk: Agent, name: str, number: str, yes: str) -> None:
    flow = Flow(desk, {})
    last = spoken(flow, *BOOKING, name, number, yes)
    assert last.actions == (Hangup(),)
    assert last.say[0].startswith(
        "Wonderful. Your appointment is booked for Tuesday at two in the afternoon."
    )
    assert flow.variables["caller_name"] == "Sarah Miller"
    assert flow.variables["phone"] == "2125550142"


@pytest.mark.parametrize("asked", ["What do you mean?", "Why do you need that?", "Can you repeat that?"])
def test_a_question_asked_back_is_not_the_name(desk: Agent, asked: str) -> None:
    flow = Flow(desk, {})
    assert spoken(flow, *BOOKING, asked).node_id == "your_name"
    assert "caller_name" not in flow.variables
    assert flow.heard("Yes, of course. My name is Sarah Miller.").node_id == "your_number"
    assert flow.variables["caller_name"] == "Sarah Miller"


def test_the_booking_is_read_back_and_may_be_changed(desk: Agent) -> None:
    flow = Flow(desk, {})
    step = spoken(flow, *BOOKING, "This is Daniel Carter", "2125550142")
    assert step.node_id == "confirm"
    assert step.say[0].startswith("So that is Tuesday at two in the afternoon for Daniel Carter.")
    assert flow.heard("Know that is not right.").node_id == "which_day"
    assert flow.heard("Friday, please").say[0].startswith("On Friday")


def test_a_day_said_at_once_is_not_asked_for(desk: Agent) -> None:
    assert spoken(Flow(desk, {}), "Can I book an appointment for Thursday?").node_id == "which_time"


def test_opening_hours_then_on(desk: Agent) -> None:
    flow = Flow(desk, {})
    assert spoken(flow, "When are you open?").node_id == "anything_else"
    assert flow.heard("No, that's all.").ends_call


PATHS = [
    (),
    ("When are you open?",),
    BOOKING[:1],
    (*BOOKING[:1], "On Sunday."),
    BOOKING[:2],
    BOOKING,
    (*BOOKING, "Sarah Miller"),
    (*BOOKING, "Sarah Miller", "2125550142"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "words", ["0", "Can I talk to human please?", "Operator.", "I want to speak to a representative.", "zero"]
)
def test_a_human_can_be_had_from_everywhere(desk: Agent, path: tuple[str, ...], words: str) -> None:
    last = spoken(Flow(desk, {}), *path, words)
    assert last.actions == (Transfer(HUMAN),) and last.say


def test_those_paths_visit_every_node_that_listens(desk: Agent) -> None:
    visited = {spoken(Flow(desk, {}), *path).node_id for path in PATHS}
    assert visited == {node.id for node in desk.call_flow.nodes if node.listens}
    assert len(visited) >= 5


VISIT = {"name": "Sarah Miller", "appointment_day": "Tuesday", "appointment_time": "ten in the morning"}


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (("Yes, speaking.", "Yes, I will be there."), "confirmed"),
        (("1", "1"), "confirmed"),
        (("Speaking.", "I need to reschedule.", "Friday would be better."), "moved"),
        (("Yes.", "No, I can't come.", "Can we do Wednesday?"), "moved"),
        (("Yes.", "2", "Monday."), "moved"),
        (("Yes.", "2", "Purple.", "The third of March."), "moved"),
        (("No, wrong number.",), "wrong_person"),
        (("Please leave a message after the tone.",), "leave_message"),
    ],
)
def test_the_reminder(files: AgentFiles, said: tuple[str, ...], end: str) -> None:
    agent = files.get("reminder")
    assert agent
    last = spoken(Flow(agent, VISIT, today=date(2026, 11, 21)), *said)
    assert last.node_id == end and last.actions == (Hangup(),)
    assert "{" not in "".join(last.say)


def test_the_reminder_leaves_its_message_when_nobody_speaks(files: AgentFiles) -> None:
    agent = files.get("reminder")
    assert agent
    flow = Flow(agent, VISIT)
    step = flow.start()
    assert step.say == ("Hello, this is Willow Clinic.", "Is this Sarah Miller speaking?")
    assert step.listen and step.listen.silence_ms
    last = flow.silence(step.listen.silence_ms)
    assert last.ends_call and "Tuesday at ten in the morning" in last.say[0]


def test_the_reminder_answers_questions_where_there_is_a_language_model(files: AgentFiles) -> None:
    agent = files.get("reminder")
    assert agent and agent.llm.provider == "openai" and agent.tools
    flow = Flow(agent, VISIT, thinks=True, today=date(2026, 11, 21))
    assert spoken(flow, "Yes, speaking.").say[0].startswith("This is a reminder")
    asked = flow.heard("What do I have to bring?").ask
    assert asked is not None and asked.task is None, "what is written there is said as it is written"
    step = flow.chose(asked.choices[0].intent, "What do I have to bring?", opened=True)
    assert step.node_id == "question" and step.listen is not None
    again = flow.heard("And where do I park?").ask
    assert again is not None and "parking" in (again.task or "")
    assert flow.heard("No, I can't come.").node_id == "new_day"
    which = flow.heard("Is there anything free on Friday afternoon?")
    assert which.node_id == "moved" or (which.ask is not None and which.ask.tools == ("free_times",))


def test_the_reminder_needs_no_language_model(files: AgentFiles) -> None:
    agent = files.get("reminder")
    assert agent
    assert all(node.say for node in agent.call_flow.nodes), "each node has words for when the model is away"
    flow = Flow(agent, VISIT, thinks=True, today=date(2026, 11, 21))
    spoken(flow, "Yes, speaking.", "What do I have to bring?")
    assert flow.unanswered("What do I have to bring?").say[-1].endswith("say yes, or press one.")
    flow.chose("asks something about the appointment or the clinic", "What?", opened=False)
    assert flow.unanswered(None).say[0].startswith("I am afraid I can not answer that.")

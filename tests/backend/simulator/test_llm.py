"""The language model's stand-in, asked by the vendor's own SDK and by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, AuthenticationError, RateLimitError

from backend.simulator.llm import LlmStandIn, main, running
from backend.simulator.llm_script import (
    Heard,
    LlmRules,
    LlmScriptError,
    parse_llm_script,
    read_llm_script,
)

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]


@asynccontextmanager
async def sdk(*rules: dict[str, Any], **script: Any) -> AsyncIterator[tuple[AsyncOpenAI, LlmStandIn]]:
    stand_in = LlmStandIn(parse_llm_script({"rules": list(rules), **script}))
    async with (
        running(stand_in) as url,
        AsyncOpenAI(api_key="key", base_url=url, max_retries=0) as client,
    ):
        yield client, stand_in


async def test_without_rules_it_says_what_it_heard() -> None:
    async with sdk() as (client, stand_in):
        reply = await client.chat.completions.create(model="any", messages=HELLO)
        assert reply.choices[0].message.content == "You said: Hello there"
        assert reply.usage and (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (2, 4)
        assert stand_in.asked[0].outcome == "finished"
        assert [model.id async for model in client.models.list()] == ["scripted"]


async def test_a_tool_call_whole_and_streamed_is_the_same() -> None:
    rule = {"reply": [{"call": "book", "arguments": {"day": "x"}}, {"call": "book", "arguments": "no json"}]}
    async with sdk(rule) as (client, _):
        reply = await client.chat.completions.create(model="any", messages=HELLO)
        calls: list[Any] = list(reply.choices[0].message.tool_calls or ())
        assert [call.function.arguments for call in calls] == ['{"day": "x"}', "no json"]
        assert reply.choices[0].finish_reason == "tool_calls"
        pieces: dict[int, str] = {}
        stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
        async for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or ():
                pieces[call.index] = pieces.get(call.index, "") + (
                    call.function.arguments if call.function and call.function.arguments else ""
                )
        assert pieces == {0: '{"day": "x"}', 1: "no json"}


async def test_refusals_are_the_vendors() -> None:
    async with sdk({"refuse": {"status": 429, "code": "rate_limit_exceeded"}}) as (client, stand_in):
        with pytest.raises(RateLimitError) as caught:
            await client.chat.completions.create(model="any", messages=HELLO)
        assert caught.value.code == "rate_limit_exceeded" and stand_in.asked[0].outcome == "refused"
    async with sdk(api_key="another") as (client, _):
        with pytest.raises(AuthenticationError):
            await client.chat.completions.create(model="any", messages=HELLO)


async def test_what_it_was_asked_can_be_read_over_http() -> None:
    async with sdk() as (client, _), httpx.AsyncClient() as http:
        await client.chat.completions.create(model="any", messages=HELLO)
        base = str(client.base_url).removesuffix("/v1/")
        (told,) = (await http.get(f"{base}/sim/requests")).json()
        assert (told["outcome"], told["body"]["messages"]) == ("finished", HELLO)
        assert (await http.post(f"{base}/v1/chat/completions", content=b"{")).status_code == 400


async def test_delays_are_kept() -> None:
    loop = asyncio.get_running_loop()
    rule = {"reply": [{"wait_ms": 120}, {"say": "One two", "pace_ms": 80}]}
    async with sdk(rule) as (client, _):
        began_s = loop.time()
        heard: list[tuple[str, float]] = []
        stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                heard.append((chunk.choices[0].delta.content, loop.time() - began_s))
        assert [text for text, _ in heard] == ["One ", "two"]
        assert heard[0][1] >= 0.19 and heard[1][1] >= 0.27


def heard(user: str, tool: str | None = None, **more: Any) -> Heard:
    messages = [{"role": "system", "content": more.pop("system", "")}, {"role": "user", "content": user}]
    tail = [] if tool is None else [{"role": "tool", "content": tool, "tool_call_id": "a"}]
    return Heard.of({"model": "m", "messages": [*messages, *tail], **more})


def said(rules: LlmRules, request: Heard) -> str | None:
    return rules.answer(request).steps[0].say


def test_the_first_rule_that_fits_answers() -> None:
    rules = LlmRules(
        parse_llm_script(
            {
                "rules": [
                    {"when": {"user": "HELLO"}, "reply": "once", "times": 1},
                    {
                        "when": {"user": {"regex": r"my name is (?P<name>\w+)"}},
                        "reply": "Hi {{name}}, {{1}}.",
                    },
                    {"when": {"system": "pirate", "user": "hello"}, "reply": "Arr."},
                    {"when": {"tool": "booked"}, "reply": "Done: {{tool}}"},
                    {"when": {"offers": "book"}, "reply": "I could."},
                ]
            }
        )
    )
    assert said(rules, heard("well hello")) == "once"
    assert said(rules, heard("hello", system="Be a pirate")) == "Arr."
    assert said(rules, heard("hello")) == "You said: hello"
    assert said(rules, heard("My name is Anna")) == "Hi Anna, Anna."
    # A rule for the caller's words is not one for the tool that they led to.
    assert said(rules, heard("My name is Anna", tool="Booked it")) == "Done: Booked it"
    assert said(rules, heard("hm", tool="failed")) == "The tool says: failed"
    tools = [{"type": "function", "function": {"name": "book"}}]
    assert said(rules, heard("hm", tools=tools)) == "I could."


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            {"rules": [{"when": {"users": "hi"}, "reply": "Hi."}]},
            "rules[0].when.users: is no field; did you mean 'user'?",
        ),
        (
            {"rules": [{"when": {"user": {"regx": "hi"}}, "reply": "Hi."}]},
            "rules[0].when.user: 'regx' is no field; did you mean 'regex'?",
        ),
        (
            {"rules": [{"reply": [{"call": "go", "argument": {}}]}]},
            "rules[0].reply[0].argument: is no field; did you mean 'arguments'?",
        ),
        ({"rule": []}, "rule: is no field; did you mean 'rules'?"),
        ({"rules": [{"refuse": {"state": 3}}]}, "rules[0].refuse.state: is no field; did you mean 'status'?"),
        ({"x": []}, "x: is no field; known are rules, api_key, first_ms, pace_ms, tells_usage"),
        (
            {"rules": [{"when": {"user": {"regex": "("}}, "reply": "Hi."}, {"reply": 5}], "first_ms": -1},
            "rules[0].when.user: is not a regular expression: missing ), "
            "unterminated subpattern at position 0\n"
            "rules[1].reply: Input should be a valid tuple\n"
            "first_ms: Input should be greater than or equal to 0",
        ),
    ],
)
def test_mistakes_in_a_script_are_told_with_place_and_what_to_write(
    script: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LlmScriptError) as caught:
        parse_llm_script(script)
    assert str(caught.value) == sentence


def test_a_rule_for_any_tool_s_result_waits_for_one() -> None:
    rules = LlmRules(parse_llm_script({"rules": [{"when": {"tool": ""}, "reply": "Done."}]}))
    assert said(rules, heard("Hello.")) == "You said: Hello."
    assert said(rules, heard("Hello.", tool="booked")) == "Done."


def test_what_was_said_fills_slots_once() -> None:
    rules = LlmRules(parse_llm_script({"rules": [{"reply": "{{user}} {{unknown}}"}]}))
    assert said(rules, heard("{{tool}}", tool=None)) == "{{tool}} {{unknown}}"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"rules": [{"reply": []}]}, "rules[0]: give `reply` or `refuse`"),
        ({"rules": [{"reply": [{"say": "a", "stall": True}]}]}, "rules[0].reply[0]: give exactly one"),
        ({"rules": [{"when": {"user": {"regex": "("}}, "reply": "a"}]}, "is not a regular expression"),
        ({"rule": []}, "rule: "),
        ([], "script: "),
    ],
)
def test_scripts_that_cannot_be_used(document: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(LlmScriptError) as caught:
        parse_llm_script(document)
    assert words in str(caught.value)
    file = tmp_path / "script.json"
    file.write_text("{")
    with pytest.raises(LlmScriptError, match="cannot be read as JSON"):
        read_llm_script(file)


def test_a_bad_start_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--script", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("llm: ")


async def test_it_runs_as_a_program(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text(json.dumps({"rules": [{"reply": "From a file."}]}))
    command = ["-m", "backend.simulator.llm", "--port", "0", "--script", str(file)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert process.stdout
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        url = line.removeprefix("OPENAI_BASE_URL=").strip()
        async with AsyncOpenAI(api_key="any", base_url=url, max_retries=5) as client:
            reply = await client.chat.completions.create(model="any", messages=HELLO)
        assert reply.choices[0].message.content == "From a file."
    finally:
        process.terminate()
        await process.communicate()

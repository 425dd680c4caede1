"""OpenAI's own Python client.

Run by the environment that has it: a task as JSON on stdin, answers on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import openai


def answer(client: openai.OpenAI, case: dict[str, Any], sound: Path) -> dict[str, Any]:
    try:
        if case["do"] == "models":
            return {"models": [model.id for model in client.models.list()]}
        if case["do"] == "model":
            return {"models": [client.models.retrieve(case["id"]).id]}
        if case["do"] == "whole":
            client.audio.speech.create(**case["options"]).write_to_file(sound)
            return {"sound": str(sound)}
        with client.audio.speech.with_streaming_response.create(**case["options"]) as response:
            response.stream_to_file(sound)
            return {"sound": str(sound), "content_type": response.headers["content-type"]}
    except openai.APIStatusError as error:
        return refusal(error)


def refusal(error: openai.APIStatusError) -> dict[str, Any]:
    body = error.body if isinstance(error.body, dict) else {}
    return {
        "class": type(error).__name__,
        "status": error.status_code,
        "message": body.get("message"),
        "param": body.get("param"),
        "request_id": error.request_id,
    }


def main() -> None:
    task = json.load(sys.stdin)
    answers = {}
    for name, case in task["cases"].items():
        client = openai.OpenAI(base_url=task["base_url"], api_key=case.get("api_key", task["api_key"]))
        answers[name] = answer(client, case, Path(task["folder"]) / name)
    print(json.dumps({"client": "openai (Python)", "version": openai.__version__, "answers": answers}))


main()

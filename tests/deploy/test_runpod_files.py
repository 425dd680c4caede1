"""The files of deploy/runpod that cannot be run here: parsed, linted where a linter is installed, and held
against what they must agree with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from runpod_server.settings import Settings, Surroundings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "runpod"
TEMPLATES = ("template.json", "template-pytorch.json")
# What RunPod's API takes: POST https://rest.runpod.io/v1/templates
TEMPLATE_FIELDS = set(
    "name imageName category containerDiskInGb containerRegistryAuthId dockerEntrypoint dockerStartCmd env "
    "isPublic isServerless ports readme volumeInGb volumeMountPath".split()
)
Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def dockerfile() -> Instructions:
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line]


def values(dockerfile: Instructions, instruction: str) -> list[str]:
    return [value for name, value in dockerfile if name == instruction]


def environment(dockerfile: Instructions) -> dict[str, str]:
    pairs = " ".join(values(dockerfile, "ENV")).split()
    return dict(pair.split("=", 1) for pair in pairs)


def is_let_through(path: str) -> bool:
    """Whether Dockerfile.dockerignore leaves a file in the build: the last line that matches decides."""
    kept = True
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        parts = path.split("/")
        ways = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        if "**/" in line:
            ways = parts
        if any(fnmatch(way, pattern) for way in ways):
            kept = line.startswith("!")
    return kept


def test_the_base_is_the_official_cuda_runtime(dockerfile: Instructions) -> None:
    assert values(dockerfile, "FROM") == ["pytorch/pytorch:${PYTORCH}"]
    (default,) = values(dockerfile, "ARG")
    assert re.fullmatch(r"PYTORCH=\d+\.\d+\.\d+-cuda\d+\.\d+-cudnn\d+-runtime", default)


def test_everything_copied_is_there_and_let_into_the_build(dockerfile: Instructions) -> None:
    for copied in values(dockerfile, "COPY"):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert is_let_through(source), source
    assert is_let_through("runpod_server/api/app.py")
    for secret in (".env", "backend/.env", ".venv/bin/python", ".git/config", "agents/front-desk.json"):
        assert not is_let_through(secret), secret
    assert not is_let_through("runpod_server/__pycache__/app.cpython-311.pyc")


def test_the_image_agrees_with_the_start_script(dockerfile: Instructions) -> None:
    script = (DEPLOY / "start.sh").read_text()
    given = environment(dockerfile)
    assert {name for name in given if name.startswith("SESAME_")} <= set(re.findall(r"SESAME_\w+", script))
    assert (given["SESAME_INSTALL"], given["HOST"], given["PORT"]) == ("never", "0.0.0.0", "8000")
    assert values(dockerfile, "EXPOSE") == ["8000"]
    assert json.loads(values(dockerfile, "ENTRYPOINT")[0]) == ["/opt/sesame/start.sh"]
    assert (DEPLOY / "start.sh").stat().st_mode & 0o111
    steps = " ".join(values(dockerfile, "RUN"))
    assert f"venv --system-site-packages {given['SESAME_VENV']}" in steps
    assert re.search(rf"useradd .*\b{given['SESAME_USER']}\b", steps), "the server does not run as root"
    for folder in (given["HF_HOME"], given["SESAME_HOME"]):
        assert folder.startswith("/workspace/") and folder in steps


def test_no_secret_is_baked_in(dockerfile: Instructions) -> None:
    assert not {"HF_TOKEN", "SESAME_API_KEY"} & set(environment(dockerfile))


def test_the_health_check_is_given_time_to_download(dockerfile: Instructions) -> None:
    (check,) = values(dockerfile, "HEALTHCHECK")
    assert "--start-period=30m" in check
    command = json.loads(check.partition("CMD ")[2])
    assert command[1] == "/opt/sesame/healthcheck.py"
    assert any(
        "healthcheck.py" in copied and copied.endswith("/opt/sesame/")
        for copied in values(dockerfile, "COPY")
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(name: str) -> None:
    template: dict[str, Any] = json.loads((DEPLOY / name).read_text())
    assert set(template) <= TEMPLATE_FIELDS
    assert f"{template['env']['PORT']}/http" in template["ports"]
    assert template["env"]["HOST"] == "0.0.0.0", "the pod's proxy must reach it"
    assert template["env"]["HF_HOME"].startswith(template["volumeMountPath"] + "/")
    assert template["volumeInGb"] >= 20 and not template["isServerless"]
    known = {field.upper() for field in (*Settings.model_fields, *Surroundings.model_fields)}
    assert set(template["env"]) <= known | {"SESAME_REPOSITORY"}
    for secret in ("HF_TOKEN", "SESAME_API_KEY"):
        assert re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", template["env"][secret])


def test_commands_are_bash() -> None:
    template = json.loads((DEPLOY / "template-pytorch.json").read_text())
    shell, option, command = template["dockerStartCmd"]
    assert (shell, option) == ("bash", "-c")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    subprocess.run(["bash", "-n", DEPLOY / "start.sh"], check=True)


@pytest.mark.parametrize("linter, file", [("shellcheck", "start.sh"), ("hadolint", "Dockerfile")])
def test_linters(linter: str, file: str) -> None:
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(linter, path=beside_python) or shutil.which(linter)
    if found is None:
        pytest.skip(f"{linter} is not installed")
    done = subprocess.run([found, DEPLOY / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

"""The command that installs what is missing fits the copy that runs, in both programs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = [
    "httpx>=0.27",
    "hibari-tts[fast]==0.2.1; extra == 'local'",
    'soundfile>=0.12 ; extra == "local"',
    "torch>=2.6; extra == 'csm'",
]


@pytest.fixture(params=["backend.extras", "runpod_server.extras"])
def extras(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(request.param)


def test_a_checkout(extras: ModuleType) -> None:
    copy = extras.Copy(checkout=Path("/src/it"))
    for here, folder in ((Path("/src/it"), "."), (Path("/elsewhere"), "/src/it")):
        told = extras.command_for("local", copy, install="pip install", here=here)
        assert told == f"pip install -e '{folder}[local]'"


@pytest.mark.parametrize(
    ("noted", "address"),
    [
        (
            {"url": "https://a.example/it-1.whl", "archive_info": {}},
            "https://a.example/it-1.whl",
        ),
        (
            {"url": "https://git.example/it", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://git.example/it@abc",
        ),
        (
            {
                "url": "https://git.example/it",
                "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "v1"},
            },
            "git+https://git.example/it@v1",
        ),
    ],
)
def test_an_address(extras: ModuleType, noted: dict[str, object], address: str) -> None:
    copy = extras.Copy(direct_url=noted, requirements=REQUIREMENTS)
    told = extras.command_for("local", copy, install="pip install", here=Path("/"))
    assert told == f"pip install 'sesame-telephony[local] @ {address}'"


def test_a_file_that_is_still_there(extras: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "it 1.whl"
    wheel.touch()
    copy = extras.Copy(direct_url={"url": wheel.as_uri(), "archive_info": {}}, requirements=REQUIREMENTS)
    told = extras.command_for("local", copy, install="pip install", here=Path("/"))
    assert told == f"pip install 'sesame-telephony[local] @ {wheel.as_uri()}'"


def test_a_file_that_is_gone_and_an_index(extras: ModuleType) -> None:
    gone = {"url": "file:///nowhere/it-1.whl", "archive_info": {}}
    for noted in (gone, None):
        copy = extras.Copy(direct_url=noted, requirements=REQUIREMENTS)
        told = extras.command_for("local", copy, install="pip install", here=Path("/"))
        assert told == "pip install 'hibari-tts[fast]==0.2.1' 'soundfile>=0.12'"


def test_what_to_type_for_pip(extras: ModuleType) -> None:
    told = extras.installer
    assert told("/v/bin/python", pip_is_first=True, has_pip=True) == "pip install"
    assert told("/v/bin/python", pip_is_first=False, has_pip=True) == "/v/bin/python -m pip install"
    assert told("/v/bin/python", pip_is_first=False, has_pip=False) == "uv pip install --python /v/bin/python"


def test_this_copy_is_a_checkout(extras: ModuleType) -> None:
    assert extras.install_command("csm").endswith(" install -e '.[csm]'") or str(ROOT) in (
        extras.install_command("csm")
    )


def test_both_programs_say_the_same() -> None:
    backend, speech = import_module("backend.extras"), import_module("runpod_server.extras")
    assert backend.install_command("local") == speech.install_command("local")

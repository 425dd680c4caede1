"""Where a simulated call is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import BackendError
from backend.simulator.session import run_folder


def test_every_run_has_a_folder_and_latest_leads_to_the_last(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folders = [run_folder(out, "Front desk · wants-a-human") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all("front-desk-wants-a-human" in folder.name for folder in folders)
    assert (out / "latest").resolve() == folders[-1].resolve()


def test_what_somebody_keeps_under_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    assert run_folder(tmp_path, "a").is_dir()
    assert (tmp_path / "latest").is_dir() and not (tmp_path / "latest").is_symlink()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BackendError, match="out cannot be made"):
        run_folder(tmp_path / "out", "a")

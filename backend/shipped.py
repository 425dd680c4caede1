"""Where the files are that come with the program: sample agents, their suites, `.env.example`, the docs.

In a checkout they lie at its root; the wheel carries the same files in `backend/shipped/` (pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path

_IN_WHEEL = Path(__file__).parent / "shipped"
_CHECKOUT = Path(__file__).parents[1]


def agents_folder() -> Path:
    """The two sample agents and the schema of agent files."""
    return _root() / "agents"


def suites_folder() -> Path:
    """The sample agents' suites and the schema of suites."""
    return _root() / "evals"


def docs_folder() -> Path:
    """The documentation."""
    return _root() / "docs"


def env_example() -> Path:
    """Every setting with its meaning, to be copied to `.env`."""
    return _IN_WHEEL / "env.example" if _IN_WHEEL.is_dir() else _CHECKOUT / ".env.example"


def _root() -> Path:
    return _IN_WHEEL if _IN_WHEEL.is_dir() else _CHECKOUT

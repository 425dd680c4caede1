"""What of this machine's settings a simulated backend runs with: what `serve` would have, but for all by
which it could reach the real carrier, the calls in the user's database or another speech server.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from backend.settings import Settings

_ITS_OWN = frozenset("public_url database_url agents_dir prompts_dir api_key host port log_level".split())
_ITS_OWN_KINDS = ("telnyx_", "sesame_")


def simulated_settings(settings: Settings, secrets: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of a backend process, agents' `secrets` among them: for its environment alone.

    A secret that has the name of a setting which the simulation keeps for itself is left out.
    """
    found = {name: value for name, value in secrets.items() if not _is_its_own(name.lower())}
    for name in settings.model_fields_set:
        if not _is_its_own(name) and (text := _as_text(getattr(settings, name))) is not None:
            found[name.upper()] = text
    return found


def _is_its_own(name: str) -> bool:
    return name in _ITS_OWN or name.startswith(_ITS_OWN_KINDS)


def _as_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.resolve())  # the process runs in another folder
    return str(value).lower() if isinstance(value, bool) else str(value)

"""An agent's `llm` → its model. A key goes to the server it belongs to, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from backend.core.agent_secrets import secret_of
from backend.core.agent_settings import LlmSettings
from backend.llm.openai import OpenAiModel


def model_of(
    llm: LlmSettings,
    *,
    base_url: str,
    api_key: str | None,
    secrets: Mapping[str, str],
    http: httpx2.AsyncClient | None,
) -> OpenAiModel | None:
    """The model an agent answers by; None: by none. `api_key` belongs to `base_url` and its host alone.
    Without `http` the model has connections of its own."""
    if llm.provider == "none" or llm.model is None:
        return None

    def key_for(url: str, own: str | None) -> str | None:
        if own is not None:
            return secret_of(own, secrets)
        return api_key if _origin(url) == _origin(base_url) else None

    url = llm.base_url or base_url
    elsewhere = llm.fallback_base_url
    if elsewhere is None and llm.fallback_model is not None and llm.fallback_api_key is not None:
        elsewhere = url
    return OpenAiModel(
        url,
        key_for(url, llm.api_key),
        llm.model,
        fallback_model=llm.fallback_model,
        fallback_base_url=elsewhere,
        fallback_api_key=key_for(elsewhere, llm.fallback_api_key) if elsewhere else None,
        temperature=llm.temperature,
        max_tokens=llm.max_tokens,
        first_token_timeout_s=llm.first_token_ms / 1000,
        timeout_s=llm.timeout_ms / 1000,
        http=http,
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

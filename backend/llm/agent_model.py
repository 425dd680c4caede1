"""An agent's `llm` → its model. A key goes to the server it belongs to, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import httpx2

from backend.core.agent_secrets import secret_names, secret_of
from backend.core.agent_settings import LlmSettings
from backend.core.llm_health import LlmKey
from backend.llm.gate import Gate
from backend.llm.openai import OpenAiModel

MAIN_KEY = "OPENAI_API_KEY"


def model_of(
    llm: LlmSettings,
    *,
    base_url: str,
    api_key: str | None,
    secrets: Mapping[str, str],
    http: httpx2.AsyncClient | None,
    gate: Callable[[LlmKey], Gate] | None = None,
) -> OpenAiModel | None:
    """The model an agent answers by; None: by none. `api_key` belongs to `base_url` and its host alone.
    Without `http` the model has connections of its own, without `gate` no memory of what failed."""
    if llm.provider == "none" or llm.model is None:
        return None

    def key_for(url: str, own: str | None) -> str | None:
        if own is not None:
            return secret_of(own, secrets)
        return api_key if _origin(url) == _origin(base_url) else None

    url, elsewhere = llm.base_url or base_url, _fallback_url(llm, base_url)
    return OpenAiModel(
        url,
        key_for(url, llm.api_key),
        llm.model,
        fallback_model=llm.fallback_model,
        fallback_base_url=elsewhere,
        fallback_api_key=key_for(elsewhere, llm.fallback_api_key) if elsewhere else None,
        temperature=llm.temperature,
        max_tokens=llm.max_tokens,
        first_token_timeout_s=None if llm.first_token_ms is None else llm.first_token_ms / 1000,
        timeout_s=llm.timeout_ms / 1000,
        http=http,
        gates=[gate(key) for key in llm_keys(llm, base_url=base_url, has_key=bool(api_key))]
        if gate is not None
        else (),
    )


def llm_keys(llm: LlmSettings, *, base_url: str, has_key: bool) -> list[LlmKey]:
    """The models that `model_of` asks, in its order. `has_key`: whether there is one for `base_url`."""
    if llm.provider == "none" or llm.model is None:
        return []

    def key_name(url: str, own: str | None) -> str:
        if own is not None:
            return ", ".join(secret_names(own))
        return MAIN_KEY if has_key and _origin(url) == _origin(base_url) else ""

    url, elsewhere = llm.base_url or base_url, _fallback_url(llm, base_url)
    keys = [LlmKey(llm.model, url, key_name(url, llm.api_key))]
    if elsewhere is not None:
        own = key_name(elsewhere, llm.fallback_api_key)
        keys.append(LlmKey(llm.fallback_model or llm.model, elsewhere, own))
    elif llm.fallback_model is not None:
        keys.append(LlmKey(llm.fallback_model, url, keys[0].key))
    return keys


def _fallback_url(llm: LlmSettings, base_url: str) -> str | None:
    """Where the fallback is, if it is elsewhere, or has a key of its own."""
    if llm.fallback_base_url is None and llm.fallback_model is not None and llm.fallback_api_key is not None:
        return llm.base_url or base_url
    return llm.fallback_base_url


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

"""The backend's settings, and the only reader of its environment and `.env`.

Nothing but the composition root and the command line imports this; everybody else gets plain arguments.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.core.urls import check_http_url
from backend.core.zones import check_zone
from backend.errors import ConfigError
from backend.unknown_settings import names_in, unknown_settings

_E164 = r"^\+[1-9][0-9]{6,14}$"


class Settings(BaseSettings):
    """Every setting by its environment name in lower case. Keys are secrets: they never show in logs."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    telnyx_api_key: SecretStr | None = Field(None, description="Key of the Telnyx API, KEY….")
    telnyx_public_key: str | None = Field(None, description="Public key that webhooks are checked with.")
    telnyx_base_url: str = Field("https://api.telnyx.com/v2", description="Where the Telnyx API is.")
    telnyx_connection_id: str | None = Field(None, description="The Voice API application that dials out.")
    telnyx_from_number: Annotated[str, Field(pattern=_E164)] | None = Field(
        None, description="Caller id of outbound calls, unless a call names another."
    )
    public_url: str | None = Field(None, description="Where Telnyx reaches this backend.")

    sesame_enabled: bool = Field(True, description="Whether agents may speak through Sesame.")
    sesame_self_hosted: bool = Field(True, description="Through your own speech server, not a hosted API.")
    sesame_self_hosted_url: str = Field(
        "http://127.0.0.1:8000", description="Your speech server; several, by commas, share the calls."
    )
    sesame_api_key: SecretStr | None = Field(None, description="Bearer key of the speech server.")
    sesame_url: str | None = Field(None, description="A hosted inference API, when not self-hosted.")
    sesame_fallback_enabled: bool = Field(False, description="Whether SESAME_FALLBACK_URL may be used.")
    sesame_fallback_url: str | None = Field(None, description="Another server with /generate.")
    sesame_fallback_api_key: SecretStr | None = Field(None, description="Bearer key of that server.")

    elevenlabs_api_key: SecretStr | None = Field(None, description="Key of ElevenLabs.")
    elevenlabs_voice_id: str | None = Field(
        None, description="ElevenLabs' voice of agents that name none: with it, they fall back on ElevenLabs."
    )
    elevenlabs_base_url: str = Field("https://api.elevenlabs.io", description="Where ElevenLabs is.")
    openai_api_key: SecretStr | None = Field(None, description="Key of the API at OPENAI_BASE_URL.")
    stt_api_key: SecretStr | None = Field(
        None, description="Bearer key of servers at an agent's stt.base_url."
    )
    openai_base_url: str = Field("https://api.openai.com/v1", description="Any OpenAI-compatible API.")

    agent_secrets: str = Field(
        "", description="Environment variables that agent files may name as {{secret:NAME}}, by commas."
    )

    webhook_actions: bool = Field(True, description="Whether agents' webhook actions are sent.")

    database_url: str = Field(
        "sqlite+aiosqlite:///voice-agent.sqlite3", description="Where calls are kept (SQLAlchemy URL)."
    )
    agents_dir: Path = Field(Path("agents"), description="Folder of the agent files.")
    prompts_dir: Path = Field(Path("prompts-cache"), description="Folder of what was spoken beforehand.")
    prompts_max_mb: int = Field(256, ge=0, le=1_000_000, description="Most it may hold; 0: memory only.")
    api_key: SecretStr | None = Field(None, description="Bearer key of this backend's API.")
    smart_turn_model: Path | None = Field(
        None, description="A Smart Turn 3 model (ONNX) with a say in whether the caller is done."
    )
    prices_usd: str = Field(
        "", description="What calls are reckoned to cost, where it is not the list price: a JSON object."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    timezone: str | None = Field(
        None, description="Where agents are at home that do not say: America/New_York; else this machine's."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")

    @field_validator(
        "telnyx_base_url", "public_url", "sesame_url", "sesame_fallback_url", "elevenlabs_base_url",
        "openai_base_url",
    )  # fmt: skip
    @classmethod
    def _one_url(cls, value: str | None) -> str | None:
        return None if value is None else check_http_url(value)

    @field_validator("sesame_self_hosted_url")
    @classmethod
    def _urls(cls, value: str) -> str:
        urls = [check_http_url(item) for item in value.split(",") if item.strip()]
        if not urls:
            raise ValueError("must name at least one address")
        return ",".join(urls)

    @field_validator("agent_secrets")
    @classmethod
    def _names(cls, value: str) -> str:
        names = [item.strip() for item in value.split(",") if item.strip()]
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
            raise ValueError("must be names of environment variables, by commas, and no values")
        return ",".join(names)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else check_zone(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @property
    def sesame_server_urls(self) -> tuple[str, ...]:
        """The self-hosted speech servers' HTTP addresses, without a slash at the end."""
        return tuple(item for item in self.sesame_self_hosted_url.split(",") if item)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the backend."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_settings(env_file: Path | str | None = ".env", **overrides: Any) -> Settings:
    """Settings from the environment and `env_file`, `overrides` before both.

    Raises ConfigError with a sentence per setting that cannot be used.
    """
    try:
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item) for item in error.errors(include_url=False))) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{env_file} is not UTF-8 text: {error.reason}") from error


def load_agent_secrets(settings: Settings, env_file: Path | str | None = ".env") -> dict[str, str]:
    """What AGENT_SECRETS names and is set, by name; from the environment, else from `env_file`."""
    file = {} if env_file is None else dotenv_values(env_file, encoding="utf-8")
    found = {name: os.environ.get(name) or file.get(name) for name in settings.agent_secrets.split(",")}
    return {name: value for name, value in found.items() if name and value}


def unknown_in_env_file(env_file: Path | str = ".env") -> list[str]:
    """A sentence for each name in the file that looks like a setting and is none."""
    names = names_in(Path(env_file))
    if not names:
        return []
    found = {name.upper(): value for name, value in dotenv_values(env_file, encoding="utf-8").items()}
    listed = os.environ.get("AGENT_SECRETS") or found.get("AGENT_SECRETS") or ""
    secrets = [name.strip() for name in listed.split(",")]
    return unknown_settings(names, Settings.model_fields, secrets)


def secrets_of(settings: Settings) -> dict[str, str]:
    """Every key the settings hold, those of agent files, and the passwords in addresses."""
    found = load_agent_secrets(settings)
    for name, value in settings:
        if isinstance(value, SecretStr):
            found[name] = value.get_secret_value()
        elif isinstance(value, str) and "://" in value:
            for number, url in enumerate(value.split(",")):
                if password := urlsplit(url).password:
                    found[f"{name}.{number}"] = unquote(password)
    return found


def secret_value(value: SecretStr | None) -> str | None:
    """A key in the clear; None when there is none."""
    return (value.get_secret_value() or None) if value is not None else None


def _sentence(item: Any) -> str:
    name = str(item["loc"][0]).upper() if item["loc"] else "settings"
    reason = item["msg"].removeprefix("Value error, ")
    if item["type"] == "string_pattern_mismatch":
        reason = "must be a number in international form, such as +15551234567"
    # The value of a setting is shown only where it cannot be a secret.
    shown = "" if name.endswith(("_KEY", "_SECRETS")) else f" (found {item['input']!r})"
    return f"{name}: {reason[:1].lower() + reason[1:]}{shown}; mend it in the environment or .env"


def missing(settings: Settings) -> list[str]:
    """What is not set although calls need it, or set in vain; a sentence each that says what to do."""
    needs = {
        "TELNYX_API_KEY": (
            settings.telnyx_api_key,
            "no call can be answered or placed; create an API key in the Telnyx portal under "
            "“API Keys” and set it",
        ),
        "TELNYX_PUBLIC_KEY": (
            settings.telnyx_public_key,
            "every webhook is refused; copy the public key from the Telnyx portal under “Keys & Credentials”",
        ),
        "PUBLIC_URL": (
            settings.public_url,
            "Telnyx cannot reach the media socket; set the https:// address of this backend as seen from "
            "the internet (a tunnel will do)",
        ),
        "TELNYX_CONNECTION_ID": (
            settings.telnyx_connection_id,
            "no call can be placed; set the id of your Voice API application",
        ),
        "TELNYX_FROM_NUMBER": (
            settings.telnyx_from_number,
            "a call can be placed only when it names `from`; set one of your Telnyx numbers",
        ),
    }
    sentences = [f"{name} is not set: {what}." for name, (value, what) in needs.items() if not value]
    if not settings.api_key and not settings.is_loopback:
        sentences.append(
            f"API_KEY is not set and HOST is {settings.host}: anybody who reaches the backend could place "
            "calls; set a long random API_KEY, or HOST=127.0.0.1."
        )
    return sentences + _in_vain(settings)


def _in_vain(settings: Settings) -> list[str]:
    """Settings that do not fit together, or that this version reads and does not act upon yet."""
    sesame = settings.sesame_enabled
    hosted, fallback = settings.sesame_url, settings.sesame_fallback_url
    said = {
        "SESAME_URL is not set and SESAME_SELF_HOSTED is false: no agent can speak through Sesame; set the "
        "address of the hosted API, or SESAME_SELF_HOSTED=true.": sesame
        and not settings.sesame_self_hosted
        and not hosted,
        "SESAME_URL has no effect while SESAME_SELF_HOSTED is true: set that to false, or leave it out.": (
            sesame and settings.sesame_self_hosted and hosted
        ),
        "SESAME_FALLBACK_ENABLED is true and SESAME_FALLBACK_URL is not set: agents whose tts_fallbacks name "
        "sesame_fallback go without it; set the address of a server with /generate.": sesame
        and settings.sesame_fallback_enabled
        and not fallback,
        "SESAME_FALLBACK_URL has no effect: set SESAME_FALLBACK_ENABLED=true.": sesame
        and fallback
        and not settings.sesame_fallback_enabled,
    }
    return [sentence for sentence, holds in said.items() if holds]

"""The speech server's settings: the only reader of the environment and of `.env`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runpod_server.errors import StartError


class Settings(BaseSettings):
    """Every setting, its default and its bounds. Names in the environment are these in capitals."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    engine: Literal["", "csm", "csm-chunked", "preview"] = ""
    csm_model: str = "sesame/csm-1b"
    hf_token: SecretStr | None = None
    host: str = "0.0.0.0"
    port: int = Field(8000, ge=0, le=65535)
    device: str = ""
    dtype: str = ""
    csm_weights: Literal["full", "int8", "fp8"] = "full"
    cuda_graphs: bool = True
    max_streams: int = Field(32, ge=1, le=1024)
    max_queue: int = Field(64, ge=0, le=10_000)
    max_text_chars: int = Field(4096, ge=1, le=100_000)
    max_connections: int = Field(1000, ge=1)
    max_connections_per_client: int = Field(500, ge=1)
    chunk_samples: int = Field(4800, ge=480, le=24_000)
    voices_dir: Literal["none"] | Path | None = None
    sesame_api_key: SecretStr | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("voices_dir", mode="before")
    @classmethod
    def _no_voices(cls, value: object) -> object:
        return "none" if isinstance(value, str) and value.strip().lower() == "none" else value

    @property
    def api_key(self) -> str | None:
        """The bearer key every endpoint asks for; None: open to anyone who reaches the port."""
        return self.sesame_api_key.get_secret_value() if self.sesame_api_key else None

    @property
    def hub_token(self) -> str | None:
        """The token of the model hub; None: not set."""
        return self.hf_token.get_secret_value() if self.hf_token else None


class Surroundings(BaseSettings):
    """Variables that belong to other programs: the model hub's library and the pod. Not read from `.env`,
    as they do not read it either."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    hf_home: Path = Path("~/.cache/huggingface")
    hf_hub_cache: Path | None = None
    hf_endpoint: str = "https://huggingface.co"
    hf_hub_offline: str = ""
    runpod_pod_id: str = ""

    @property
    def hub_cache(self) -> Path:
        """Where downloaded models lie."""
        return (self.hf_hub_cache or self.hf_home / "hub").expanduser()

    @property
    def offline(self) -> bool:
        """Whether the hub's library was told to stay off the network."""
        return self.hf_hub_offline.upper() in ("1", "ON", "YES", "TRUE")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment and `.env`, with overrides (None: not given) from the command line.

    Raises StartError naming each setting that cannot be used, and why.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']).upper()}={fault['input']!r}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise StartError(f"these settings cannot be used: {faults}") from error

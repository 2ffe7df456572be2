"""Every environment variable, read once by `cli.py`, `worker.py` and `create_app()`.

No other module reads the environment. Secrets can also come as `STREAMVAULT_<NAME>_FILE`.
"""

from __future__ import annotations

import os
import uuid
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streamvault.errors import SettingsError

PREFIX = "STREAMVAULT_"
SECRET_NAMES = (
    "SECRET_KEY",
    "ADMIN_PASSWORD",
    "TWITCH_CLIENT_SECRET",
    "EVENTSUB_SECRET",
    "STREAM_PROXY",
    "NOTIFY_TARGETS",
    "DATABASE_URL",
    "TEMPORAL_API_KEY",
)

CommaList = Annotated[tuple[str, ...], NoDecode]


def default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/streamvault")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "streamvault"


class Settings(BaseSettings):
    """See `.env.example` for what each variable does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # `./sv` names the one in the clone, wherever it was called from.
        env_file=os.environ.get(f"{PREFIX}ENV_FILE", ".env"),
        # An empty value is no value: TEMPORAL_API_KEY= must not turn TLS on.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(default_factory=default_data_dir)
    recordings_dir: Path = Path()
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    base_url: str = ""
    allowed_hosts: CommaList = ()
    allowed_origins: CommaList = ()
    trusted_proxies: CommaList = ()
    allowed_networks: CommaList = ()

    database_url: SecretStr | None = None
    db_pool_size: int | None = Field(None, ge=1, le=500)
    db_max_overflow: int | None = Field(None, ge=0, le=500)
    postgres_bin_dir: Path | None = None

    temporal_address: str = ""
    temporal_namespace: str = "streamvault"
    temporal_ui_url: str = ""
    temporal_api_key: SecretStr | None = None
    temporal_tls: bool = False
    temporal_bin: Path | None = None

    secret_key: SecretStr | None = None
    admin_username: str = ""
    admin_password: SecretStr | None = None

    twitch_client_id: str = ""
    twitch_client_secret: SecretStr | None = None
    twitch_helix_url: str = "https://api.twitch.tv/helix"
    twitch_auth_url: str = "https://id.twitch.tv/oauth2"
    twitch_eventsub_ws_url: str = "wss://eventsub.wss.twitch.tv/ws"
    allow_insecure_twitch: bool = False
    eventsub_secret: SecretStr | None = None
    eventsub_transport: Literal["auto", "webhook", "conduit", "websocket", "poll"] = "auto"
    poll_interval_s: float = Field(30, ge=1, le=3600)
    end_grace_s: float = Field(90, ge=0, le=86400)

    stream_proxy: SecretStr | None = None
    ca_bundle: Path | None = None
    ffmpeg: Path | None = None
    notify_targets: SecretStr | None = None
    """Apprise URLs, separated by white space or commas."""

    host_id: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    metrics_port: int = Field(0, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["", "console", "json"] = ""

    @field_validator(
        "allowed_hosts", "allowed_origins", "trusted_proxies", "allowed_networks", mode="before"
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("trusted_proxies", "allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            ip_network(entry, strict=False)
        return value

    @field_validator("host")
    @classmethod
    def _loopback_until_sign_in_exists(cls, value: str) -> str:
        if not is_loopback(value):
            raise ValueError("only 127.0.0.1, ::1 or localhost, since there is no sign-in yet")
        return value

    @field_validator("base_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("an address such as https://vault.example.org")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _asyncpg_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith("postgresql+asyncpg://"):
            raise ValueError("an address such as postgresql+asyncpg://user:password@host/database")
        return value

    @field_validator("stream_proxy")
    @classmethod
    def _proxy_url(cls, value: SecretStr | None) -> SecretStr | None:
        schemes = {"http", "https", "socks5", "socks5h"}
        if value and urlsplit(value.get_secret_value()).scheme not in schemes:
            raise ValueError("a proxy address such as http://host:port or socks5h://host:port")
        return value

    @field_validator("ca_bundle", "ffmpeg", "postgres_bin_dir", "temporal_bin")
    @classmethod
    def _exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError(f"a path that exists ({value} does not)")
        return value

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: Any) -> Any:
        for name in SECRET_NAMES:
            path = os.environ.get(f"{PREFIX}{name}_FILE")
            if path and not values.get(name.lower()):
                values[name.lower()] = _read_secret(name, Path(path))
        return values

    @model_validator(mode="after")
    def _twitch_over_tls(self) -> Settings:
        for name in ("twitch_helix_url", "twitch_auth_url", "twitch_eventsub_ws_url"):
            scheme = urlsplit(getattr(self, name)).scheme
            if scheme in {"http", "ws"} and not self.allow_insecure_twitch:
                raise SettingsError(
                    f"{PREFIX}{name.upper()}: takes https or wss",
                    hint=f"plain http only with {PREFIX}ALLOW_INSECURE_TWITCH=1",
                )
        return self

    @property
    def library(self) -> Path:
        """The media library's root."""
        return (
            self.recordings_dir if self.recordings_dir != Path() else self.data_dir / "recordings"
        )

    @property
    def proxy_url(self) -> str | None:
        return self.stream_proxy.get_secret_value() if self.stream_proxy else None

    @property
    def notify_urls(self) -> list[str]:
        raw = self.notify_targets.get_secret_value() if self.notify_targets else ""
        return raw.replace(",", " ").split()


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `.env`.

    Raises SettingsError: one line that names the variable and what it takes.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_first_problem(error)) from None


def stable_host_id(settings: Settings) -> str:
    """This host's name for its queues; made once, since files stay on the disk that made them."""
    if settings.host_id:
        return settings.host_id
    path = settings.data_dir / "host_id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        fresh.write_text(uuid.uuid4().hex[:12])
        try:
            # link() keeps the first writer's id when two processes start at once.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return path.read_text().strip()


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = f"{PREFIX}{str(first['loc'][0]).upper()}" if first["loc"] else "settings"
    return f"{name}: takes {first['msg'].removeprefix('Value error, ')}"


def _read_secret(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{PREFIX}{name}_FILE: {error.strerror}: {path}") from None

"""Every environment variable, read once by `cli.py`, `worker.py` and `create_app()`.

No other module reads the environment. Secrets can also come as `STREAMVAULT_<NAME>_FILE`.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

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
COMMA_LISTS = ("allowed_hosts", "allowed_origins", "trusted_proxies", "allowed_networks")


class Secret:
    """A text that no log, error or repr shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


Port = Annotated[int, Meta(ge=0, le=65535, description="a port, 0 to 65535")]
PoolSize = Annotated[int, Meta(ge=0, le=500, description="a whole number, 0 to 500")]
PollSeconds = Annotated[float, Meta(ge=1, le=3600, description="seconds, 1 to 3600")]
GraceSeconds = Annotated[float, Meta(ge=0, le=86400, description="seconds, 0 to 86400")]
HostId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="letters, digits, - and _, at most 64")
]


def default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/streamvault")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "streamvault"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """See `.env.example` for what each variable does. Made by `load_settings`."""

    data_dir: Path = msgspec.field(default_factory=default_data_dir)
    recordings_dir: Path = Path()
    recordings_dir_2: Path | None = None
    """Where recordings go on when the first library is full."""
    host: str = "127.0.0.1"
    port: Port = 8080
    base_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()

    database_url: Secret | None = None
    db_pool_size: PoolSize | None = None
    db_max_overflow: PoolSize | None = None
    postgres_bin_dir: Path | None = None

    temporal_address: str = ""
    temporal_namespace: str = "streamvault"
    temporal_ui_url: str = ""
    temporal_api_key: Secret | None = None
    temporal_tls: bool = False
    temporal_bin: Path | None = None

    secret_key: Secret | None = None
    admin_username: str = ""
    admin_password: Secret | None = None

    twitch_client_id: str = ""
    twitch_client_secret: Secret | None = None
    twitch_helix_url: str = "https://api.twitch.tv/helix"
    twitch_auth_url: str = "https://id.twitch.tv/oauth2"
    twitch_eventsub_ws_url: str = "wss://eventsub.wss.twitch.tv/ws"
    allow_insecure_twitch: bool = False
    eventsub_secret: Secret | None = None
    eventsub_transport: Literal["auto", "webhook", "conduit", "websocket", "poll"] = "auto"
    poll_interval_s: PollSeconds = 30
    detection: bool = True
    """Off in a stack that was started for one recording only."""
    end_grace_s: GraceSeconds = 90

    stream_proxy: Secret | None = None
    proxy_policy: Literal["", "direct", "proxy-first", "proxy-only"] = ""
    ca_bundle: Path | None = None
    ad_chapters: bool = False
    """Ad breaks become chapters."""
    ffmpeg: Path | None = None
    notify_targets: Secret | None = None
    """Apprise URLs, separated by white space or commas."""

    host_id: HostId = ""
    metrics_port: Port = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["", "console", "json"] = ""

    @property
    def library(self) -> Path:
        """The media library's root."""
        return (
            self.recordings_dir if self.recordings_dir != Path() else self.data_dir / "recordings"
        )

    @property
    def libraries(self) -> tuple[Path, ...]:
        """In the order in which they are filled."""
        return (self.library, *([self.recordings_dir_2] if self.recordings_dir_2 else []))

    @property
    def default_proxy_policy(self) -> str:
        """Whoever sets a proxy for everything does not want to be seen without it."""
        return self.proxy_policy or ("proxy-only" if self.stream_proxy else "direct")

    @property
    def proxy_url(self) -> str | None:
        return self.stream_proxy.get_secret_value() if self.stream_proxy else None

    @property
    def notify_urls(self) -> list[str]:
        raw = self.notify_targets.get_secret_value() if self.notify_targets else ""
        return raw.replace(",", " ").split()

    def replaced(self, **values: Any) -> Settings:
        """A copy with other values, which are not checked again."""
        return msgspec.structs.replace(self, **values)


def load_settings(*, env_file: Path | None = None, **overrides: Any) -> Settings:
    """Settings from `.env` (by default `STREAMVAULT_ENV_FILE`, else that of the current folder),
    above them the environment, above that `overrides`.

    Raises SettingsError: one line that names the variable and what it takes.
    """
    # `./sv` names the file in the clone, wherever it was called from.
    file = env_file or Path(os.environ.get(f"{PREFIX}ENV_FILE", ".env"))
    values = _named(dotenv_values(file)) | _named(os.environ)
    return check_settings(_secrets_from_files() | values | overrides)


def check_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from texts by name, as they stand in the environment, or from values of their type.

    Raises SettingsError."""
    prepared = {name: _prepare(name, value) for name, value in values.items()}
    try:
        settings = msgspec.convert(prepared, Settings, strict=False, dec_hook=_custom)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`").partition("[")[0]
        raise SettingsError(f"{PREFIX}{name.upper()}: takes {_taken_by(name)}") from None
    for name, takes in _problems(settings):
        raise SettingsError(f"{PREFIX}{name.upper()}: takes {takes}")
    return settings


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


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


# ---- reading


def _named(variables: Mapping[str, str | None]) -> dict[str, Any]:
    """Ours by field name. An empty value is no value: TEMPORAL_API_KEY= must not turn TLS on."""
    return {
        name: value
        for name in Settings.__struct_fields__
        if (value := variables.get(f"{PREFIX}{name.upper()}"))
    }


def _secrets_from_files() -> dict[str, str]:
    named = {name: os.environ.get(f"{PREFIX}{name}_FILE") for name in SECRET_NAMES}
    return {name.lower(): _read_secret(name, Path(path)) for name, path in named.items() if path}


def _read_secret(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{PREFIX}{name}_FILE: {error.strerror}: {path}") from None


def _prepare(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in COMMA_LISTS:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if name == "log_level":
        return value.lower()
    return value.rstrip("/") if name == "base_url" else value


def _custom(kind: type, value: Any) -> Any:
    """What msgspec does not know itself: Path and Secret."""
    return value if isinstance(value, kind) else kind(value)


# ---- checking


def _taken_by(name: str) -> str:
    """What a variable takes, in words, read off the field's type."""
    hint = get_type_hints(Settings, include_extras=True)[name]
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            return str(meta.description)
    if hint is bool:
        return "true or false"
    choices = [str(choice) for choice in get_args(hint) if choice]
    return f"one of {', '.join(choices)}"


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """(field, what it takes) of each value that its type alone does not rule out."""
    for name, is_good, takes in _RULES:
        value = getattr(settings, name)
        if value not in (None, "") and not is_good(value):
            yield name, takes
    for name in ("ca_bundle", "ffmpeg", "postgres_bin_dir", "temporal_bin"):
        path = getattr(settings, name)
        if path is not None and not path.exists():
            yield name, f"a path that exists ({path} does not)"
    for name in ("twitch_helix_url", "twitch_auth_url", "twitch_eventsub_ws_url"):
        scheme = urlsplit(getattr(settings, name)).scheme
        if scheme not in {"https", "wss"} and not settings.allow_insecure_twitch:
            yield name, f"https or wss; plain http only with {PREFIX}ALLOW_INSECURE_TWITCH=1"


def _are_networks(entries: tuple[str, ...]) -> bool:
    try:
        return all(ip_network(entry, strict=False) for entry in entries)
    except ValueError:
        return False


def _is_public_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _are_fernet_keys(text: str) -> bool:
    # Not by the library that will use them: it costs every process some megabytes.
    keys = [key.strip() for key in text.split(",") if key.strip()]
    try:
        return bool(keys) and all(len(base64.urlsafe_b64decode(key)) == 32 for key in keys)
    except ValueError:
        return False


def _is_eventsub_secret(text: str) -> bool:
    return text.isascii() and 10 <= len(text) <= 100


def _scheme(secret: Secret) -> str:
    return urlsplit(secret.get_secret_value()).scheme


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "host",
        is_loopback,
        "only 127.0.0.1, ::1 or localhost, since there is no sign-in yet",
    ),
    (
        "secret_key",
        lambda secret: _are_fernet_keys(secret.get_secret_value()),
        "Fernet keys, comma separated, each 32 bytes in URL-safe base64",
    ),
    (
        "eventsub_secret",
        lambda secret: _is_eventsub_secret(secret.get_secret_value()),
        "10 to 100 ASCII characters",
    ),
    ("base_url", _is_public_url, "an address such as https://vault.example.org"),
    ("trusted_proxies", _are_networks, "networks such as 10.0.0.0/8, comma separated"),
    ("allowed_networks", _are_networks, "networks such as 192.168.1.0/24, comma separated"),
    ("db_pool_size", lambda size: size >= 1, "a whole number, 1 to 500"),
    (
        "database_url",
        lambda secret: _scheme(secret) == "postgresql+asyncpg",
        "an address such as postgresql+asyncpg://user:password@host/database",
    ),
    (
        "stream_proxy",
        lambda secret: _scheme(secret) in {"http", "https", "socks5", "socks5h"},
        "a proxy address such as http://host:port or socks5h://host:port",
    ),
)

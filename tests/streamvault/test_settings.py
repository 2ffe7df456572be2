"""A wrong value is told in one line that names the variable and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamvault.errors import SettingsError
from streamvault.settings import PREFIX, Secret, load_settings, stable_host_id


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}DATA_DIR", str(tmp_path))
    monkeypatch.delenv(f"{PREFIX}ENV_FILE", raising=False)


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("PORT", "eighty", "a port, 0 to 65535"),
        ("PORT", "70000", "a port, 0 to 65535"),
        ("END_GRACE_S", "soon", "seconds, 0 to 86400"),
        ("POLL_INTERVAL_S", "0", "seconds, 1 to 3600"),
        ("TEMPORAL_TLS", "perhaps", "true or false"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "one of console, json"),
        ("EVENTSUB_TRANSPORT", "pigeon", "one of auto, webhook, conduit, websocket, poll"),
        ("HOST_ID", "a b", "letters, digits"),
        ("HOST", "0.0.0.0", "only 127.0.0.1"),
        ("BASE_URL", "vault.example.org", "https://vault.example.org"),
        ("DATABASE_URL", "postgres://canary@host/db", "postgresql+asyncpg://"),
        ("STREAM_PROXY", "ftp://canary@host", "a proxy address"),
        ("ALLOWED_NETWORKS", "192.168.1.0/40", "networks such as"),
        ("DB_POOL_SIZE", "0", "a whole number, 1 to 500"),
        ("FFMPEG", "/nowhere/ffmpeg", "a path that exists"),
        ("TWITCH_HELIX_URL", "http://127.0.0.1:1/helix", "https or wss"),
    ],
)
def test_a_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, takes: str) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = caught.value.one_line
    assert line.startswith(f"{PREFIX}{name}: takes ")
    assert takes in line
    assert "\n" not in line
    assert "canary" not in line


def test_values_in_their_types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "PORT": "0",
        "END_GRACE_S": "2.5",
        "TEMPORAL_TLS": "1",
        "ALLOWED_HOSTS": "a.example, b.example,",
        "LOG_LEVEL": "DEBUG",
        "BASE_URL": "https://vault.example/",
        "STREAM_PROXY": "socks5h://user:canary@127.0.0.1:1080",
        "RECORDINGS_DIR": str(tmp_path / "media"),
        "TEMPORAL_API_KEY": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    settings = load_settings()
    assert (settings.port, settings.end_grace_s, settings.temporal_tls) == (0, 2.5, True)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert (settings.log_level, settings.base_url) == ("debug", "https://vault.example")
    assert settings.library == tmp_path / "media"
    assert settings.temporal_api_key is None
    assert settings.proxy_url == "socks5h://user:canary@127.0.0.1:1080"
    assert "canary" not in repr(settings)


def test_the_environment_wins_over_the_file_and_overrides_win_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"{PREFIX}PORT=1001\n{PREFIX}HOST=localhost\n")
    assert (load_settings().port, load_settings().host) == (1001, "localhost")
    monkeypatch.setenv(f"{PREFIX}PORT", "1002")
    assert load_settings().port == 1002
    assert load_settings(port=1003).port == 1003


def test_a_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+asyncpg://sv@/sv\n")
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL_FILE", str(tmp_path / "url"))
    assert load_settings().database_url == Secret("postgresql+asyncpg://sv@/sv")
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL_FILE", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match="DATABASE_URL_FILE: No such file"):
        load_settings()


def test_the_host_id_is_made_once(tmp_path: Path) -> None:
    settings = load_settings()
    assert stable_host_id(settings) == stable_host_id(settings) != ""
    assert stable_host_id(load_settings(host_id="named")) == "named"

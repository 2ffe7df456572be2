"""Logging: one event per line, fields not prose; console for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

# Query strings of playlists and segments carry tokens; user info in URLs carries passwords.
_SECRETS = re.compile(
    r"(?P<userinfo>(?<=://)[^/\s:@]+:[^/\s@]+(?=@))"
    r"|(?<=[?&])(?P<key>token|sig|nauth|nauthsig|access_token|client_secret|key)=[^&\s\"']+"
    r"|(?P<bearer>(?:Bearer|OAuth)\s+)[A-Za-z0-9._~+/=-]+",
    re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Replace what looks like a credential, for text that came from elsewhere."""

    def hide(match: re.Match[str]) -> str:
        if match["key"]:
            return f"{match['key']}=***"
        return f"{match['bearer']}***" if match["bearer"] else "***"

    return _SECRETS.sub(hide, text)


class JsonLines(logging.Formatter):
    """One JSON object per record: event, level, logger, timestamp, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": _time(record),
            **_fields(record),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return scrub(json.dumps(event, default=str))


class ConsoleLines(logging.Formatter):
    """Time, level and event, then the fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)[11:19]} {record.levelname.lower():<7} {record.getMessage()}"
        line = f"{line:<50} {fields}".rstrip()
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return scrub(line)


def configure_logs(level: str = "info", fmt: str = "") -> None:
    """Send all logging to standard error; `fmt` empty picks by terminal."""
    console = fmt == "console" or (not fmt and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(ConsoleLines() if console else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`. Temporal's own dictionaries repeat what its event says."""
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith(("temporal_", "__temporal"))
    }


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

"""Logging: one event per line, fields not prose; console for people, JSON for machines."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

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


def _scrub_event(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {key: scrub(value) if isinstance(value, str) else value for key, value in event.items()}


def configure_logs(level: str = "info", fmt: str = "") -> None:
    """Route the standard library's logging through structlog; `fmt` empty picks by terminal."""
    console = fmt == "console" or (not fmt and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub_event,
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "urllib3", "streamlink"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from streamvault.logs import ConsoleLines, JsonLines, scrub


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO, logging.Handler]]:
    logger, text = logging.getLogger("streamvault.test_logs"), io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    logger.setLevel("INFO")
    logger.propagate = False
    yield logger, text, handler
    logger.removeHandler(handler)


def test_a_title_with_a_line_break_stays_inside_one_json_line(log) -> None:  # type: ignore[no-untyped-def]
    logger, text, handler = log
    handler.setFormatter(JsonLines())
    logger.info("title changed", extra={"title": 'x\n{"level": "error"}', "recording_id": 7})
    (line,) = text.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "title changed"
    assert (event["level"], event["recording_id"]) == ("info", 7)
    assert event["title"] == 'x\n{"level": "error"}'


def test_an_exception_is_a_field(log) -> None:  # type: ignore[no-untyped-def]
    logger, text, handler = log
    handler.setFormatter(JsonLines())
    try:
        raise ValueError("no such thing")
    except ValueError:
        logger.exception("failed")
    (line,) = text.getvalue().splitlines()
    assert "ValueError: no such thing" in json.loads(line)["exception"]


@pytest.mark.parametrize("formatter", [JsonLines(), ConsoleLines()])
def test_what_looks_like_a_credential_is_hidden(formatter: logging.Formatter, log) -> None:  # type: ignore[no-untyped-def]
    logger, text, handler = log
    handler.setFormatter(formatter)
    logger.warning(
        "cannot reach %s",
        "https://user:canary1@host/list.m3u8?token=canary2&x=1",
        extra={"header": "Authorization: Bearer canary3", "url": "http://h/?sig=canary4"},
    )
    assert "canary" not in text.getvalue()
    assert "list.m3u8" in text.getvalue()


def test_plain_text_is_left_alone() -> None:
    assert scrub("recording 12 of 30 at 10:30") == "recording 12 of 30 at 10:30"

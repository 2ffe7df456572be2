from __future__ import annotations

import pytest

from tests.e2e.conftest import channel, gate, own_up, shared_up

__all__ = ["channel", "gate", "own_up", "shared_up"]

OUTAGE = "--outage-s"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OUTAGE, type=int, default=150, help="how long Twitch's API is away")


@pytest.fixture
def outage_s(pytestconfig: pytest.Config) -> int:
    # The option is there only when pytest was given this folder.
    return int(pytestconfig.getoption(OUTAGE, default=150))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults: what each cost, and what the report says that it cost."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    lines = [
        str(text)
        for report in reports
        for name, text in getattr(report, "user_properties", [])
        if name == "fault" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("faults")
        for line in sorted(lines):
            terminalreporter.write_line(line)

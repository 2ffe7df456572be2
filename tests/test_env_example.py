"""`.env.example` and `Settings` name the same variables."""

from __future__ import annotations

import re
from pathlib import Path

from streamvault.settings import PREFIX, Settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    named = re.findall(rf"^#{PREFIX}(\w+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    assert {name.lower() for name in named} == set(Settings.__struct_fields__)


def test_the_example_as_it_is_changes_nothing() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)

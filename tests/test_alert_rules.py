"""The alert rules that ship with the product: well formed, and about figures that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from streamvault.metrics.system import Metrics

ROOT = Path(__file__).parents[1]
DURATION = re.compile(r"[1-9]\d*(s|m|h|d)")


def rules() -> list[dict[str, Any]]:
    text = (ROOT / "ops" / "prometheus" / "rules.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


ALERTS = [pytest.param(rule, id=rule["alert"]) for rule in rules() if "alert" in rule]


@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert DURATION.fullmatch(rule.get("for", "1s"))
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    runbook = ROOT / "docs" / "runbooks" / f"{rule['labels']['runbook']}.md"
    assert rule["annotations"]["runbook_url"] == str(runbook.relative_to(ROOT))
    assert runbook.read_text().startswith(f"# {rule['alert']}\n")


@pytest.mark.parametrize("rule", ALERTS)
def test_an_expression_is_whole_and_names_figures_that_exist(rule: dict[str, Any]) -> None:
    text = rule["expr"]
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing)
    page = Metrics().exposition().decode()
    there = set(re.findall(r"^(streamvault_\w+)", page, re.MULTILINE))
    named = set(re.findall(r"streamvault_\w+", text))
    assert named, text
    assert named <= there

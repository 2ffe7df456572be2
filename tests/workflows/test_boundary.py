"""What a workflow file may name: it is replayed, so nothing in it may reach the world."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "workflows").glob("*.py") if path.name != "__init__.py")
PASSED_THROUGH = ("activities.", "workflows.", "streamvault.contracts")
CALLS = (
    *("execute_activity", "execute_activity_class", "execute_activity_method"),
    *("start_activity", "start_activity_class", "start_activity_method"),
)


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def is_pass_through(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) == (
        "workflow.unsafe.imports_passed_through()"
    )


def problems(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    blocks = [node for node in ast.walk(tree) if is_pass_through(node)]
    if len(blocks) > 1:
        yield "more than one imports_passed_through() block"
    inside = {id(node) for block in blocks for node in ast.walk(block)}
    activities: set[str] = set()
    for node in ast.walk(tree):
        for module in imported(node):
            if id(node) in inside:
                if not module.startswith(PASSED_THROUGH):
                    yield f"{module} is passed through"
                if isinstance(node, ast.ImportFrom) and module.startswith("activities"):
                    activities |= {alias.asname or alias.name for alias in node.names}
            elif not allowed_outside(module):
                yield f"{module} is imported"
    yield from misplaced_activities(tree, inside, activities)


def allowed_outside(module: str) -> bool:
    top = module.split(".")[0]
    return top in sys.stdlib_module_names | {"temporalio"} or module == "streamvault.contracts"


def misplaced_activities(tree: ast.Module, inside: set[int], activities: set[str]) -> Iterator[str]:
    placed = {
        id(part)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in CALLS
        and call.args
        for part in ast.walk(call.args[0])
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in activities and id(node) not in placed:
            yield f"line {node.lineno}: {node.id} is named outside the start of an activity"
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr in CALLS and isinstance(call.args[0], ast.Constant):
            yield f"line {call.lineno}: an activity is named by a string"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_file_stays_within_its_boundary(path: Path) -> None:
    assert list(problems(path.read_text())) == []


BLOCK = "with workflow.unsafe.imports_passed_through():\n    from activities.media import Media\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import httpx", "httpx is imported"),
        ("from streamvault.db import recordings", "streamvault.db is imported"),
        ("from activities.media import Media", "activities.media is imported"),
        (BLOCK + "    import sqlalchemy", "sqlalchemy is passed through"),
        (BLOCK + BLOCK, "more than one imports_passed_through() block"),
        (BLOCK + "Media(db)", "line 3: Media is named outside the start of an activity"),
        (
            BLOCK + "workflow.execute_activity_method(Other.f, Media.remux)",
            "line 3: Media is named outside the start of an activity",
        ),
        ("workflow.execute_activity('remux')", "line 1: an activity is named by a string"),
    ],
)
def test_a_breach_is_noticed(source: str, said: str) -> None:
    assert list(problems(source)) == [said]


def test_what_is_allowed_is_not_reported() -> None:
    start = "workflow.start_activity_method(Media.remux, order, task_queue=queue)"
    assert list(problems(f"import asyncio\n{BLOCK}{start}")) == []

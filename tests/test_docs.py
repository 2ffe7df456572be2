"""What the documents name is there: settings, verbs, routes, files."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import msgspec
import pytest
import typer.main

from api.app import create_app
from streamvault.settings import PREFIX, SECRET_NAMES, Settings, check_settings
from verbs import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
PICTURE_LIMIT_BYTES = 200_000


def test_the_table_of_the_readme_holds_every_setting_once() -> None:
    named = re.findall(rf"^\| `{PREFIX}(\w+)` \|", README, re.MULTILINE)
    assert sorted(named) == sorted(name.upper() for name in Settings.__struct_fields__)


def test_the_readme_names_what_can_come_from_a_file() -> None:
    paragraph = README[README.index("Secrets can come from a file") :].split("\n\n")[0]
    named = re.findall(rf"`(?:{PREFIX}|…_)(\w+?)(?:_FILE)?`", paragraph)
    assert sorted(named) == sorted(SECRET_NAMES)


def test_defaults_are_what_the_documents_say() -> None:
    example = (ROOT / ".env.example").read_text()
    in_example = dict(re.findall(rf"^#{PREFIX}(\w+)=(.*)$", example, re.MULTILINE))
    in_table = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    for name, default in defaults.items():
        if default not in (msgspec.NODEFAULT, None, "", (), 0, Path()):
            text = str(default).removesuffix(".0")
            text = text.lower() if isinstance(default, bool) else text
            assert in_example[name.upper()] == in_table[name.upper()] == text


def test_every_verb_in_the_documents_exists() -> None:
    bootstrap = runpy.run_path(str(ROOT / "sv"))
    # `lock` is the one verb that the bootstrap carries out itself.
    known = {"lock", *bootstrap["DEVELOPER_VERBS"], *typer.main.get_group(app).commands}
    for name in DOCUMENTS:
        assert set(re.findall(r"\./sv ([a-z]+)", (ROOT / name).read_text())) <= known


def test_every_route_in_the_readme_exists() -> None:
    settings = check_settings({"database_url": "postgresql+asyncpg://nobody@/nothing"})
    paths = create_app(settings).openapi()["paths"]
    patterns = [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]
    named = re.findall(r"(?:\$api|`)(/[a-z][\w./$-]*)", README)
    served = [name for name in named if name.startswith(("/api/", "/healthz", "/readyz"))]
    assert len(served) > 10
    for name in served:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    for link in links:
        assert link.startswith("https://") or (ROOT / link).is_file(), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_are_there(name: str) -> None:
    """`streamvault/hls/` is a folder, `journal.py` any file of that name."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    there = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    for path in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", (ROOT / name).read_text()):
        assert any(str(found).endswith(f"/{path}") for found in there), path


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "pipeline.png").stat().st_size < PICTURE_LIMIT_BYTES

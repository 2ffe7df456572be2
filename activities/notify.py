"""Telling people: one row per event and target, each delivered by a workflow of its own."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.engine import temporal_away
from activities.progress import step_of
from activities.pushes import Pushes, is_browser
from streamvault.contracts import (
    CONTROL_QUEUE,
    NotifyInput,
    Status,
    Step,
    StepDone,
    StepInput,
    notification_workflow_id,
)
from streamvault.db import dead_letters, notifications, recordings
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.notify.targets import DeliveryFailed, Message, Targets

# Workflows import activities, so its class cannot be imported here.
DELIVER_NOTIFICATION = "DeliverNotification"
FINISHED = "recording.finished"


@dataclass(frozen=True)
class Notify:
    db: Database
    targets: Targets
    pushes: Pushes

    @activity.defn
    async def announce(self, order: StepInput) -> StepDone:
        """Queue the news of a finished recording; asked again, nothing is said twice."""
        async with step_of(self.db, order.recording_id, Step.NOTIFY):
            names = [*self.targets.names, *await self.pushes.names()]
            async with self.db.begin() as session:
                ids = await notifications.queue_notifications(
                    session, order.recording_id, FINISHED, names
                )
            for notification_id in ids:
                await start_delivery(activity.client(), str(notification_id))
        return StepDone(f"{len(ids)} targets" if ids else "no targets")

    @activity.defn
    async def deliver(self, order: NotifyInput) -> None:
        async with self.db.begin() as session:
            row = await notifications.get_notification(session, order.notification_id)
            recording = await recordings.get_recording(session, row.recording_id)
        if row.state == notifications.SENT:
            return
        try:
            sender = self.pushes if is_browser(row.target) else self.targets
            await sender.send(row.target, _message(recording))
        except DeliveryFailed as error:
            if error.permanent:
                # A browser that has left needs nobody's attention.
                await self._mark(order, notifications.FAILED, str(error))
                return
            state = notifications.FAILED if _is_last_attempt() else notifications.QUEUED
            await self._mark(
                order, state, str(error), needs_attention=state == notifications.FAILED
            )
            raise
        await self._mark(order, notifications.SENT)

    async def _mark(
        self, order: NotifyInput, state: str, error: str = "", *, needs_attention: bool = False
    ) -> None:
        async with self.db.begin() as session:
            row = await notifications.mark_notification(
                session, order.notification_id, state, error
            )
            if needs_attention:
                await dead_letters.add_letter(
                    session,
                    dead_letters.NOTIFICATION,
                    str(row.id),
                    title=f"{row.event} to {row.target}",
                    error=error,
                    attempts=activity.info().attempt,
                )


def _is_last_attempt() -> bool:
    info = activity.info()
    tries = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return 0 < tries <= info.attempt


async def start_delivery(client: Client, notification_id: str) -> None:
    """Deliver what is queued, or try again what failed for good. Raises DependencyUnavailable."""
    try:
        await client.start_workflow(
            DELIVER_NOTIFICATION,
            NotifyInput(notification_id),
            id=notification_workflow_id(notification_id),
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        )
    except WorkflowAlreadyStartedError:
        # Delivered by an earlier attempt of this activity.
        return
    except RPCError as error:
        raise temporal_away(error) from None


def _message(recording: Recording) -> Message:
    failed = recording.status == Status.FAILED
    what = "failed" if failed else "finished"
    title = f"{recording.streamer_name}: recording {what}"
    minutes = recording.duration_s / 60
    lines = [recording.title, f"{minutes:.0f} min, {recording.size_bytes / 1e9:.2f} GB"]
    if recording.totals and recording.totals.get("gap_s"):
        lines.append(f"{recording.totals['gap_s']:.0f} s are missing, see the report")
    return Message(
        title,
        "\n".join(line for line in lines if line),
        failure=failed,
        path=f"/watch/{recording.id}",
        tag=str(recording.id),
    )

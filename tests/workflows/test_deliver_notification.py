from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle

from streamvault.contracts import CONTROL_QUEUE, NotifyInput, notification_workflow_id
from tests.workflows.fakes import failure
from tests.workflows.stage import Stage
from workflows.deliver_notification import DeliverNotification


async def ordered(stage: Stage) -> WorkflowHandle[DeliverNotification, None]:
    return await stage.client.start_workflow(
        DeliverNotification.run,
        NotifyInput(stage.recording_id),
        id=notification_workflow_id(stage.recording_id),
        task_queue=CONTROL_QUEUE,
    )


async def test_a_notification_is_delivered_once(stage: Stage) -> None:
    delivery = await ordered(stage)
    await delivery.result()
    assert stage.cast.notify.delivered == [NotifyInput(stage.recording_id)]
    await stage.keep(delivery, "deliver_notification-happy")


async def test_a_target_out_of_reach_is_tried_five_times_within_an_hour(skipping: Stage) -> None:
    skipping.cast.script.failures["deliver"] = [failure("no answer", "DeliveryFailed")] * 9
    delivery = await ordered(skipping)
    with pytest.raises(WorkflowFailureError):
        await delivery.result()
    assert skipping.cast.work("deliver") == ["deliver"] * 5
    # 15 s, 90 s, 9 min, then at most 30 min.
    run = await delivery.describe()
    assert run.close_time is not None
    assert 15 + 90 + 540 + 1800 <= (run.close_time - run.start_time).total_seconds() <= 3600


async def test_a_target_that_comes_back_gets_its_message(skipping: Stage) -> None:
    skipping.cast.script.failures["deliver"] = [failure("no answer", "DeliveryFailed")] * 4
    await (await ordered(skipping)).result()
    assert skipping.cast.notify.delivered == [NotifyInput(skipping.recording_id)]

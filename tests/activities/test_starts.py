"""The one door to a recording: a real database, real Temporal, a recorder that is played."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from activities.starts import start_processing, start_seen
from streamvault.contracts import Probed, Status, stream_workflow_id
from streamvault.db import captured, recordings, streamers
from streamvault.errors import Conflict, StreamOffline
from tests.activities.door import ALICE, Door
from tests.workflows.fakes import ENDED, failure
from workflows.record_stream import RecordStream


async def test_a_hundred_starts_at_once_are_one_recording(door: Door) -> None:
    started = await asyncio.gather(*(door.start() for _ in range(100)))
    assert len({recording_id for recording_id, _ in started}) == 1
    assert sum(created for _, created in started) == 1
    assert await door.rows() == 1
    await door.until_recording()
    assert door.stage.cast.work() == ["detect", "claim", "record"]
    await door.stage.until_found(door.stage.stream, f"WorkflowId='{door.stage.stream.id}'")
    query = f"WorkflowType='RecordStream' AND WorkflowId='{door.stage.stream.id}'"
    assert (await door.stage.client.count_workflows(query)).count == 1


async def test_the_stream_names_the_workflow(door: Door) -> None:
    recording_id, _ = await door.start()
    row = await door.row(recording_id)
    assert row.workflow_id == stream_workflow_id("fake", door.stream_id)
    assert (row.streamer_name, row.title) == ("Alice", "speedrun")


async def test_a_source_without_stream_ids_is_single_by_its_address(door: Door) -> None:
    door.stage.cast.streams.seen = Probed("hls", "", "origin")
    started = await asyncio.gather(*(door.start() for _ in range(5)))
    [recording_id] = {recording_id for recording_id, _ in started}
    assert (await door.row(recording_id)).workflow_id == f"stream-url-{recording_id}"


async def test_what_is_offline_leaves_no_row(door: Door) -> None:
    words = "alice is offline"
    door.stage.cast.script.failures["probe"] = [failure(words, "StreamOffline", permanent=True)]
    with pytest.raises(StreamOffline, match=words):
        await door.start()
    assert await door.rows() == 0


async def test_a_start_that_got_lost_is_made_up_for(door: Door) -> None:
    """The row was committed, then the process died before it started the workflow."""
    key = f"fake:{door.stream_id}"
    workflow_id = stream_workflow_id("fake", door.stream_id)
    async with door.db.begin() as session:
        lost, _ = await recordings.open_recording(
            session, recordings.NewRecording(key, ALICE, workflow_id=workflow_id)
        )
    assert await door.start() == (str(lost.id), False)
    await door.until_recording()


async def test_what_a_person_stopped_starts_by_a_person_only(door: Door) -> None:
    first, _ = await door.start()
    await door.until_recording()
    await door.stage.stream.signal("stop", "enough")
    await door.stage.stream.result()
    for source in ("webhook", "conduit", "websocket", "poll"):
        with pytest.raises(Conflict, match="a person stopped this stream"):
            await door.start(by=source)
    second, created = await door.start(by="cli")
    assert created and second != first
    assert str((await door.row(second)).continues_id) == first
    await door.until_recording(session=2)


async def test_a_stop_holds_from_the_moment_processing_begins(door: Door) -> None:
    door.stage.cast.script.hold("remux")
    await door.start()
    await door.until_recording()
    await door.stage.stream.signal("stop")
    await door.stage.until_called("remux")
    with pytest.raises(Conflict, match="a person stopped this stream"):
        await door.start(by="poll")


async def test_a_stopped_recording_stays_stopped_when_it_is_processed_again(door: Door) -> None:
    recording_id, _ = await door.start()
    await door.until_recording()
    await door.stage.stream.signal("stop")
    await door.stage.stream.result()
    row = await door.row(recording_id)
    await start_processing(door.stage.client, row, door.stage.cast.host_id, ["chapters"])
    await door.stage.processing.result()
    assert (await door.row(recording_id)).reason == "stopped"


async def test_a_stream_that_ended_by_itself_may_be_continued_by_anyone(door: Door) -> None:
    first, _ = await door.start()
    await door.until_recording()
    await door.finish()
    second, created = await door.start(by="poll")
    assert created
    assert str((await door.row(second)).continues_id) == first


async def test_seen_live_again_while_processing_goes_on_in_the_same_recording(door: Door) -> None:
    door.stage.cast.script.hold("remux")
    first, _ = await door.start()
    await door.until_recording()
    door.stage.cast.recording.ends.put_nowait(ENDED)
    await door.until_status(first, Status.PROCESSING)
    await door.stage.until_called("remux")
    assert await door.start(by="poll") == (first, False)
    await door.until_recording(session=2)
    row = await door.until_status(first, Status.RECORDING)
    assert row.ended_at is None
    assert {step.name: step.state for step in row.steps}["remux"] == "waiting"


async def test_seen_live_again_with_the_file_written_has_to_wait(door: Door) -> None:
    door.stage.cast.script.hold("thumbnails")
    first, _ = await door.start()
    await door.until_recording()
    door.stage.cast.recording.ends.put_nowait(ENDED)
    await door.stage.until_called("thumbnails")
    async with door.db.begin() as session:
        await captured.save_final_file(session, first, captured.FinalFile("a.mp4", 1, 1.0))
    with pytest.raises(Conflict, match="just being finished"):
        await door.start(by="poll")


async def test_processing_that_runs_is_not_started_twice(door: Door) -> None:
    door.stage.cast.script.hold("remux")
    recording_id, _ = await door.start()
    await door.until_recording()
    door.stage.cast.recording.ends.put_nowait(ENDED)
    await door.stage.until_called("remux")
    row = await door.row(recording_id)
    with pytest.raises(Conflict, match="being processed already"):
        await start_processing(door.stage.client, row, door.stage.cast.host_id)


class Followed(Door):
    """A streamer whom we follow, seen by an automatic source."""

    streamer_id = ""

    async def follow(self) -> None:
        async with self.db.begin() as session:
            new = streamers.NewStreamer("fake", "alice", "Alice", ALICE)
            streamer, _ = await streamers.add_streamer(session, new)
            self.streamer_id = str(streamer.id)

    async def seen(self, stream_id: str, grace_s: float = 90.0) -> tuple[str, bool]:
        recording_id, created = await start_seen(
            self.stage.client,
            self.db,
            Probed("fake", "alice", "Alice", stream_id, "speedrun"),
            url=ALICE,
            quality="best",
            started_by="poll",
            streamer_id=self.streamer_id,
            grace_s=grace_s,
        )
        client = self.stage.client
        self.stage.stream = client.get_workflow_handle_for(
            RecordStream.run, stream_workflow_id("fake", stream_id)
        )
        return recording_id, created


@pytest.fixture
async def followed(door: Door) -> Followed:
    followed = Followed(door.stage, door.db)
    await followed.follow()
    return followed


async def test_a_new_stream_in_the_place_of_one_that_still_runs(followed: Followed) -> None:
    """The old recording is told that it is over, and the new one continues it."""
    stage, old, new = followed.stage, uuid.uuid4().hex, uuid.uuid4().hex
    first, _ = await followed.seen(old)
    await followed.until_recording()
    second, created = await followed.seen(new)
    assert created and second != first
    assert str((await followed.row(second)).continues_id) == first
    await stage.until_called("nudge")
    [nudge] = stage.cast.recording.nudges
    assert (nudge.recording_id, nudge.word) == (first, "another")


async def test_a_new_stream_within_the_grace_continues_and_later_it_does_not(
    followed: Followed,
) -> None:
    first, _ = await followed.seen(uuid.uuid4().hex)
    await followed.until_recording()
    await followed.finish()
    second, _ = await followed.seen(uuid.uuid4().hex)
    assert str((await followed.row(second)).continues_id) == first
    await followed.until_recording(session=2)
    await followed.finish()
    third, _ = await followed.seen(uuid.uuid4().hex, grace_s=0.0)
    assert (await followed.row(third)).continues_id is None


async def test_seen_by_many_at_once_is_one_recording(followed: Followed) -> None:
    """Sources and people, whatever each of them knows of the streamer."""
    followed.stage.cast.streams.seen = Probed("fake", "alice", "Alice", followed.stream_id, "x")
    told = [followed.seen(followed.stream_id) for _ in range(50)]
    asked = [followed.start() for _ in range(50)]
    started = await asyncio.gather(*told, *asked)
    assert len({recording_id for recording_id, _ in started}) == 1
    assert await followed.rows() == 1
    row = await followed.row(started[0][0])
    assert str(row.streamer_id) == followed.streamer_id

"""Dead letters: what was tried often enough and now needs a person, of every kind."""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from uuid import UUID

from fastapi import APIRouter, Query

from activities.notify import start_delivery
from api.deps import Cursor, Deps, Limit, Shared
from api.routes import pipelines
from api.schemas import Listing, steps_of
from api.schemas_dead_letters import DeadLetter, Discard, LetterDecided, LetterKind
from streamvault.contracts import PROCESSING_STEPS, StepState, processing_workflow_id
from streamvault.db import dead_letters, inbox, models, notifications, steps
from streamvault.db.pages import encode_cursor
from streamvault.errors import NotFound

router = APIRouter(prefix="/api/dead-letters", tags=["dead letters"])

PIPELINE: LetterKind = "pipeline"
_STUCK = frozenset({str(StepState.PARKED), str(StepState.FAILED)})


@router.get("")
async def list_all(
    deps: Deps,
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: Annotated[list[LetterKind] | None, Query()] = None,
) -> Listing[DeadLetter]:
    """Newest first: pipelines that failed or wait for a person, webhook messages, notifications."""
    wanted = kind or get_args(LetterKind)
    found: dict[UUID, DeadLetter] = {}
    async with deps.db.begin() as session:
        # Recordings and letters have ids by the clock, so that one cursor goes through both.
        if PIPELINE in wanted:
            stuck = await steps.list_needing_attention(session, limit=limit + 1, cursor=cursor)
            found |= {row.id: _of_pipeline(row, deps) for row in stuck.items}
        letters = await dead_letters.list_letters(
            session, kinds=tuple(wanted), limit=limit + 1, cursor=cursor
        )
        found |= {row.id: _of_letter(row) for row in letters.items}
    newest = sorted(found, reverse=True)
    more = len(newest) > limit
    return Listing(
        items=[found[id_] for id_ in newest[:limit]],
        next_cursor=encode_cursor(newest[limit - 1]) if more else None,
    )


@router.post("/{letter_id}/retry", status_code=202)
async def retry(letter_id: str, deps: Deps) -> LetterDecided:
    """Try it again from the start; once more the same is a 409."""
    if _is_pipeline(letter_id):
        await pipelines.decide(deps, letter_id, "retry", None)
        return LetterDecided(id=letter_id, kind=PIPELINE, action="retry")
    async with deps.db.begin() as session:
        letter = await dead_letters.take_letter(session, letter_id)
        letter.state = dead_letters.RETRIED
        key = dead_letters.key_of(letter)
        if letter.kind == dead_letters.INBOX:
            if not await inbox.revive(session, key):
                raise NotFound("the message is not there any more", hint="discard this letter")
        else:
            await notifications.queue_again(session, key)
            # Before the commit: what cannot be started stays a dead letter.
            await start_delivery(await deps.temporal.client(), key)
    return _decided(letter, "retry")


@router.post("/{letter_id}/discard", status_code=202)
async def discard(letter_id: str, body: Discard, deps: Deps) -> LetterDecided:
    """Let it be. A parked pipeline is given up; one that failed stays in the list."""
    if _is_pipeline(letter_id):
        await pipelines.decide(deps, letter_id, "give_up", None)
        return LetterDecided(id=letter_id, kind=PIPELINE, action="discard")
    async with deps.db.begin() as session:
        letter = await dead_letters.take_letter(session, letter_id)
        letter.state, letter.reason = dead_letters.DISCARDED, body.reason
    return _decided(letter, "discard")


def _is_pipeline(letter_id: str) -> bool:
    """Pipelines go by the id of a workflow, which begins with a word."""
    try:
        UUID(letter_id)
    except ValueError:
        return True
    return False


def _decided(letter: models.DeadLetter, action: Literal["retry", "discard"]) -> LetterDecided:
    return LetterDecided(id=str(letter.id), kind=_kind(letter), action=action)


def _kind(letter: models.DeadLetter) -> LetterKind:
    return "inbox" if letter.kind == dead_letters.INBOX else "notification"


def _of_letter(row: models.DeadLetter) -> DeadLetter:
    return DeadLetter(
        id=str(row.id),
        kind=_kind(row),
        title=row.title,
        error=row.error or None,
        attempts=row.attempts,
        since=row.last_at,
    )


def _of_pipeline(row: models.Recording, deps: Shared) -> DeadLetter:
    stuck = next((step for step in steps_of(row) if step.state in _STUCK), None)
    in_child = stuck is not None and stuck.name in PROCESSING_STEPS
    workflow_id = processing_workflow_id(str(row.id)) if in_child else row.workflow_id
    return DeadLetter(
        id=workflow_id,
        kind=PIPELINE,
        title=row.title,
        error=(stuck.error if stuck else None) or row.reason or None,
        attempts=stuck.attempt if stuck else None,
        since=(stuck.ended_at or stuck.started_at) if stuck else row.ended_at,
        recording_id=row.id,
        streamer=pipelines.streamer_ref(row),
        status=row.status,
        step=stuck.name if stuck else row.step,
        temporal_url=deps.temporal.link(workflow_id),
    )

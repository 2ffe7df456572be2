"""Queries about avatars and the art of categories: what is shown, and which are due. They never
commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import Category, Streamer
from streamvault.errors import NotFound

FOLDER = "images"
"""Below DATA_DIR: the pictures that rows name."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A row with a picture, or with the address of one. `source` is what `image` was made from."""

    key: UUID | str
    """Of a streamer, or of a category."""
    url: str
    image: str
    source: str


async def list_shown(session: AsyncSession) -> list[Shown]:
    """Categories follow the streamers; the one added last comes first."""
    people = await session.execute(
        select(Streamer.id, Streamer.avatar_url, Streamer.image, Streamer.image_source)
        .where((Streamer.avatar_url != "") | (Streamer.image != ""))
        .order_by(Streamer.id.desc())
    )
    games = await session.execute(
        select(Category.id, Category.art_url, Category.image, Category.image_source)
        .where((Category.art_url != "") | (Category.image != ""))
        .order_by(Category.id)
    )
    return [Shown(*row) for row in people] + [Shown(*row) for row in games]


async def note_image(session: AsyncSession, shown: Shown, image: str) -> None:
    """`image` is "" if no usable picture is at its address."""
    table = Streamer if isinstance(shown.key, UUID) else Category
    await session.execute(
        update(table)
        .where(table.id == shown.key)
        .values(image=image, image_source=shown.url)
        .execution_options(synchronize_session=False)
    )


async def images_in_use(session: AsyncSession) -> set[str]:
    rows = await session.scalars(
        union(select(Streamer.image), select(Category.image)).order_by("image")
    )
    return set(rows) - {""}


async def categories_due(session: AsyncSession, older_than: timedelta, limit: int) -> Sequence[str]:
    """Ids that channels name and whose art we have not asked for since then."""
    recent = select(Category.id).where(Category.fetched_at > func.now() - older_than)
    rows = await session.scalars(
        select(Streamer.category_id)
        .where(Streamer.category_id != "", Streamer.category_id.not_in(recent))
        .distinct()
        .limit(limit)
    )
    return rows.all()


async def put_category(session: AsyncSession, category_id: str, name: str, art_url: str) -> None:
    new = insert(Category).values(id=category_id, name=name, art_url=art_url)
    await session.execute(
        new.on_conflict_do_update(
            index_elements=[Category.id],
            set_={
                "name": func.coalesce(func.nullif(new.excluded.name, ""), Category.name),
                "art_url": new.excluded.art_url,
                "fetched_at": func.now(),
            },
        )
    )


async def get_category(session: AsyncSession, category_id: str) -> Category:
    found = await session.get(Category, category_id)
    if found is None:
        raise NotFound(f"there is no category {category_id[:64]!r}")
    return found

"""Web push: browsers that want to hear of recordings (RFC 8030)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api.addresses import MAX_LENGTH, check_https_address
from api.deps import Deps
from streamvault.db import pushes
from streamvault.db.models import PushSubscription

router = APIRouter(prefix="/api/push", tags=["push"])

KeyText = Annotated[SecretStr, Field(min_length=1, max_length=200)]


class PublicKey(BaseModel):
    public_key: str
    """`applicationServerKey` for `PushManager.subscribe()`: base64url of a point on P-256."""


class Keys(BaseModel):
    p256dh: KeyText
    auth: KeyText


class NewSubscription(BaseModel):
    """What `PushSubscription.toJSON()` gives; members that browsers add are let be."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    endpoint: Annotated[SecretStr, Field(min_length=1, max_length=MAX_LENGTH)]
    expiration_time: Annotated[Any, Field(alias="expirationTime")] = None
    keys: Keys


class SubscriptionItem(BaseModel):
    id: UUID
    service: str
    """Host of the push service; the rest of the endpoint is write-only."""
    created_at: datetime

    @classmethod
    def of(cls, row: PushSubscription) -> SubscriptionItem:
        return cls(id=row.id, service=row.shown, created_at=row.created_at)


class Subscriptions(BaseModel):
    items: list[SubscriptionItem]


@router.get("/public-key")
async def public_key(deps: Deps) -> PublicKey:
    return PublicKey(public_key=await deps.pushes.public_key())


@router.get("/subscriptions")
async def list_all(deps: Deps) -> Subscriptions:
    async with deps.db.begin() as session:
        rows = await pushes.list_subscriptions(session)
    return Subscriptions(items=[SubscriptionItem.of(row) for row in rows])


@router.post("/subscriptions", status_code=201)
async def subscribe(body: NewSubscription, deps: Deps, response: Response) -> SubscriptionItem:
    """Asked again by the same browser, the answer is the same subscription."""
    from streamvault.notify.push import Subscription  # noqa: PLC0415  # memory of those who need it

    endpoint = body.endpoint.get_secret_value()
    keys = body.keys
    subscription = Subscription.of(
        endpoint, keys.p256dh.get_secret_value(), keys.auth.get_secret_value()
    )
    await check_https_address(endpoint, deps.settings)
    row = await deps.pushes.subscribe(subscription)
    response.headers["Location"] = f"/api/push/subscriptions/{row.id}"
    return SubscriptionItem.of(row)


@router.delete("/subscriptions/{subscription_id}", status_code=204)
async def unsubscribe(subscription_id: str, deps: Deps) -> None:
    async with deps.db.begin() as session:
        await pushes.delete(session, subscription_id)

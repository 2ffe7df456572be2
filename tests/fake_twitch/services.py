"""Helix, id and EventSub put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import BaseRoute

from tests.fake_twitch.buckets import Buckets
from tests.fake_twitch.calls import CallLog
from tests.fake_twitch.conduits import Conduits
from tests.fake_twitch.conduits_rest import ConduitRoutes
from tests.fake_twitch.disturbances import Disturbances
from tests.fake_twitch.eventsub import EventSub
from tests.fake_twitch.eventsub_rest import Subscriptions
from tests.fake_twitch.eventsub_sockets import Sockets
from tests.fake_twitch.eventsub_webhooks import Webhooks
from tests.fake_twitch.eventsub_words import DeliveryLog
from tests.fake_twitch.faults import Faults
from tests.fake_twitch.front import Front
from tests.fake_twitch.helix import Helix
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.oauth import Id
from tests.fake_twitch.sign_ins import SignIns
from tests.fake_twitch.tokens import Tokens
from tests.fake_twitch.world import World

TICK_S = 0.25


@dataclass
class Services:
    world: World
    faults: Faults
    knobs: Knobs
    calls: CallLog
    tokens: Tokens
    sign_ins: SignIns
    buckets: Buckets
    helix: Helix
    eventsub: EventSub

    def routes(self) -> list[BaseRoute]:
        front = Front(self.knobs, self.faults, self.calls, self.tokens, self.buckets)
        return [
            *self.helix.routes(front),
            *Id(self.knobs, self.tokens, self.sign_ins).routes(front),
            *Subscriptions(self.eventsub, self.knobs).routes(front),
            *ConduitRoutes(self.eventsub, self.knobs).routes(front),
            *self.eventsub.sockets.routes(),
        ]

    async def reset(self) -> None:
        """As at the start, but channels, applications and tokens stay."""
        self.faults.rules.clear()
        self.knobs.reset()
        self.calls.calls.clear()
        self.buckets.buckets.clear()
        await self.eventsub.reset()

    async def tick(self) -> None:
        """What happens by time alone, whether anybody asks or not."""
        while True:
            await asyncio.sleep(TICK_S)
            self.eventsub.conduits.delete_dead()
            for channel in list(self.world.channels.values()):
                if channel.stream and channel.stream.options.length:
                    channel.advance()


def make_services(world: World, faults: Faults, authority: Path) -> Services:
    knobs = Knobs()
    tokens, log = Tokens(world, knobs), DeliveryLog()
    calls = CallLog(tokens)
    eventsub = EventSub(
        world=world,
        knobs=knobs,
        tokens=tokens,
        log=log,
        webhooks=Webhooks(knobs, log, authority),
        sockets=Sockets(knobs, faults, calls),
        conduits=Conduits(knobs),
        disturbances=Disturbances(log),
    )
    world.on_event = eventsub.announce
    return Services(
        world=world,
        faults=faults,
        knobs=knobs,
        calls=calls,
        tokens=tokens,
        sign_ins=SignIns(),
        buckets=Buckets(knobs),
        helix=Helix(world, faults, knobs),
        eventsub=eventsub,
    )

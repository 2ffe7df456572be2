"""Helix's token buckets: one for each application, one for each of its users."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from tests.fake_twitch.knobs import Knobs

Owner = tuple[str, str]
"""Client id and user id; no user id for the application itself."""


@dataclass
class Bucket:
    points: float
    filled_at: float


@dataclass
class Buckets:
    knobs: Knobs
    buckets: dict[Owner, Bucket] = field(default_factory=dict)

    def take(self, owner: Owner) -> bool:
        """Whether there was a point left."""
        bucket = self._filled(owner)
        if bucket.points < 1:
            return False
        bucket.points -= 1
        return True

    def drain(self, owner: Owner, points: float) -> None:
        self._filled(owner).points = points

    def headers(self, owner: Owner) -> dict[str, str]:
        """Reset is when the bucket is full again, in whole seconds of Twitch's clock."""
        bucket, size = self._filled(owner), self.knobs.points_per_min
        full_in_s = (size - bucket.points) / size * self.knobs.full_after_s
        return {
            "Ratelimit-Limit": str(size),
            "Ratelimit-Remaining": str(int(bucket.points)),
            "Ratelimit-Reset": str(math.ceil(time.time() + self.knobs.date_skew_s + full_in_s)),
        }

    def _filled(self, owner: Owner) -> Bucket:
        now, size = time.monotonic(), self.knobs.points_per_min
        bucket = self.buckets.setdefault(owner, Bucket(size, now))
        gained = (now - bucket.filled_at) * size / self.knobs.full_after_s
        bucket.points, bucket.filled_at = min(size, bucket.points + gained), now
        return bucket

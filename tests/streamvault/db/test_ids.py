from __future__ import annotations

import time

from streamvault.db.ids import uuid7


def test_an_id_holds_its_time_version_and_variant() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= made.int >> 80 <= after
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_ids_are_distinct() -> None:
    assert len({uuid7() for _ in range(10_000)}) == 10_000

"""Search attributes and retry policies shared by the workflows, each with its reason."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy, SearchAttributeKey

SV_STREAMER = SearchAttributeKey.for_keyword("SvStreamer")
SV_STAGE = SearchAttributeKey.for_keyword("SvStage")
SV_HOST = SearchAttributeKey.for_keyword("SvHost")
SV_NEEDS_ATTENTION = SearchAttributeKey.for_bool("SvNeedsAttention")

# The catalog is one short transaction. It must happen, however long the database is away: a
# pipeline never fails because PostgreSQL was restarted.
CATALOG_TIMEOUT = timedelta(seconds=30)
CATALOG_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=15),
)

# A weekend away; after it a parked pipeline fails, and the Failed list is the dead-letter list.
PARKED_FOR = timedelta(hours=72)

# The poll, the watchdog and EventSub are one long activity each, which returns after 6 h by itself.
WATCH_TIMEOUT = timedelta(hours=7)
# It beats every 5 s; a worker that died is missed after this.
WATCH_HEARTBEAT = timedelta(seconds=20)
# Nothing else would find or notice what they do, so they are tried for ever.
WATCH_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
)

# Thousands of files on a slow disk.
SWEEP_TIMEOUT = timedelta(hours=1)
SWEEP_HEARTBEAT = timedelta(seconds=60)
# The next quarter of an hour looks again anyway; a host that is off has nobody who asks.
SWEEP_WAITS = timedelta(minutes=5)
SWEEP_RETRY = RetryPolicy(initial_interval=timedelta(seconds=10), maximum_attempts=3)

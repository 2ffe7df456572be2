"""The connection to Temporal, for workers and API alike."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from streamvault.errors import DependencyUnavailable
from streamvault.settings import Settings


async def connect_temporal(settings: Settings, metrics_port: int = 0) -> Client:
    """A client of the configured server and namespace; its own figures on a loopback port.

    Raises DependencyUnavailable when nothing answers there; the caller decides on another try."""
    key = settings.temporal_api_key
    try:
        return await Client.connect(
            settings.temporal_address,
            namespace=settings.temporal_namespace,
            api_key=key.get_secret_value() if key else None,
            tls=settings.temporal_tls or key is not None,
            runtime=_runtime(metrics_port),
        )
    except RuntimeError as error:
        raise DependencyUnavailable(
            f"Temporal cannot be reached at {settings.temporal_address}",
            hint="is the Temporal server running?",
        ) from error


def temporal_away(error: RPCError) -> DependencyUnavailable:
    """What an answer that did not come means to the caller."""
    return DependencyUnavailable(f"Temporal cannot be reached: {error.status.name.lower()}")


def _runtime(metrics_port: int) -> Runtime | None:
    if not metrics_port:
        return None
    metrics = PrometheusConfig(
        bind_address=f"127.0.0.1:{metrics_port}",
        durations_as_seconds=True,
        unit_suffix=True,
        counters_total_suffix=True,
    )
    return Runtime(telemetry=TelemetryConfig(metrics=metrics))

"""One place where the errors of `streamvault.errors` become failures of Temporal."""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from streamvault.errors import StreamVaultError
from streamvault.logs import scrub


class TranslateErrors(Interceptor):
    """Permanent errors stop the retries; every text is scrubbed, since failures are stored."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Translate(next)


class _Translate(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except StreamVaultError as error:
            text = scrub(error.one_line)
            activity.logger.warning("activity failed", extra={"error": text})
            raise ApplicationError(
                text, type=type(error).__name__, non_retryable=error.permanent
            ) from None

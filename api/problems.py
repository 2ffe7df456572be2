"""Every error of the API as a problem document (RFC 9457); the only place that maps them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from api.headers import SECURITY_HEADERS
from streamvault import errors
from streamvault.logs import scrub

log = logging.getLogger(__name__)

# The most special class of an error's ancestry decides; StreamVaultError is the last resort.
STATUS_OF: dict[type[errors.StreamVaultError], int] = {
    errors.StreamVaultError: 500,
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.DependencyUnavailable: 503,
    errors.SourceError: 502,
    errors.UnknownSource: 422,
    errors.StreamOffline: 409,
    errors.AccessRefused: 409,
    errors.TwitchError: 502,
    errors.TwitchNotConfigured: 409,
    errors.TwitchUnavailable: 503,
    errors.CaptureLocked: 409,
    errors.StorageFull: 507,
    errors.ToolMissing: 503,
}
RETRY_AFTER_S = "5"


class Problem(Response):
    """A problem document. `action` is what would help: `label`, `method`, `href`."""

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        scope: Scope,
        hint: str = "",
        action: Mapping[str, str] | None = None,
        invalid: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
            "hint": hint,
            "action": action,
            "errors": invalid,
            "trace_id": scope.get("state", {}).get("trace_id", ""),
        }
        body = {name: value for name, value in members.items() if value not in ("", None)}
        super().__init__(json.dumps(body), status_code=status, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.StreamVaultError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: errors.StreamVaultError) -> int:
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.StreamVaultError)
    status = status_of(error)
    if status >= 500:
        log.error("request failed", extra={"path": request.url.path, "why": error.one_line})
    return Problem(
        status,
        error.title,
        scrub(str(error)),
        hint=scrub(error.hint),
        scope=request.scope,
        headers={"Retry-After": RETRY_AFTER_S} if status == 503 else None,
    )


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    invalid = [
        {"pointer": _pointer(found["loc"]), "detail": str(found["msg"])} for found in error.errors()
    ]
    first = invalid[0] if invalid else {"pointer": "", "detail": ""}
    return Problem(
        422,
        errors.InvalidInput.title,
        f"{first['pointer']}: {first['detail']}",
        invalid=invalid,
        scope=request.scope,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail == title else error.detail
    return Problem(error.status_code, title, detail, scope=request.scope, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette sends this answer past every middleware, and logs the traceback afterwards.
    return Problem(
        500,
        errors.StreamVaultError.title,
        "an error that StreamVault did not expect; the log has the details",
        scope=request.scope,
        headers=SECURITY_HEADERS,
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer into the body, or the name of the parameter."""
    where, *path = location
    return "/" + "/".join(map(str, path)) if where == "body" else str(path[-1] if path else where)

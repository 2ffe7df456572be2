"""The other end of web push: a browser that can read what was meant for it, and its push service.

Written after RFC 8291, RFC 8188 and RFC 8292 alone, so that it agrees with us by them only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from streamvault.notify.push import Subscription


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Browser:
    """One that has subscribed."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = os.urandom(16)

    @property
    def json(self) -> dict[str, Any]:
        """As `PushSubscription.toJSON()` gives it."""
        return {
            "endpoint": self.endpoint,
            "expirationTime": None,
            "keys": {"p256dh": base64url(self._public), "auth": base64url(self.auth)},
        }

    @property
    def subscription(self) -> Subscription:
        return Subscription(self.endpoint, self._public, self.auth)

    @property
    def _public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def read(self, body: bytes) -> dict[str, Any]:
        salt, length = body[:16], body[20]
        record_size = int.from_bytes(body[16:20], "big")
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(sealed) <= record_size and len(body) <= 4096
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        shared = self.key.exchange(ec.ECDH(), theirs)
        info = b"WebPush: info\0" + self._public + sender + b"\1"
        secret = _hmac(_hmac(self.auth, shared), info)
        root = _hmac(salt, secret)
        key = _hmac(root, b"Content-Encoding: aes128gcm\0\1")[:16]
        nonce = _hmac(root, b"Content-Encoding: nonce\0\1")[:12]
        text = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\0")
        assert text[-1:] == b"\2"
        told: dict[str, Any] = json.loads(text[:-1])
        return told


@dataclass
class Delivery:
    path: str
    headers: dict[str, str]
    body: bytes

    def check_sender(self, public_key: str) -> dict[str, Any]:
        """The claims of the sender, who must hold the key that the browser was given."""
        assert self.headers["content-encoding"] == "aes128gcm"
        assert int(self.headers["ttl"]) > 0
        scheme, _, rest = self.headers["authorization"].partition(" ")
        given = dict(item.strip().split("=", 1) for item in rest.split(","))
        assert scheme == "vapid" and given["k"] == public_key
        head, claims, signature = given["t"].split(".")
        raw = plain(signature)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), plain(public_key))
        signed = f"{head}.{claims}".encode()
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        told: dict[str, Any] = json.loads(plain(claims))
        assert time.time() < told["exp"] <= time.time() + 24 * 3600
        return told


@dataclass
class PushService:
    origin: str = ""
    answer: int = 201
    calls: list[Delivery] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[PushService]:
        service, app = cls(), web.Application()
        app.router.add_post("/{path:.*}", service._take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        service.origin = f"http://{host}:{port}"
        try:
            yield service
        finally:
            await runner.cleanup()

    def endpoint(self, name: str) -> str:
        return f"{self.origin}/push/{name}"

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Delivery(request.path, headers, await request.read()))
        return web.Response(status=self.answer)


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)

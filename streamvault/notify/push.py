"""Web push: messages to a browser that agreed to them, encrypted for it alone.

RFC 8030 (delivery), RFC 8291 (encryption: one `aes128gcm` record of RFC 8188) and RFC 8292 (VAPID,
by which the push service knows the sender).
"""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from streamvault.errors import InvalidInput
from streamvault.notify.targets import DeliveryFailed, Message

# A push service takes 4096 bytes (RFC 8291, section 4): header 86, tag 16, delimiter 1.
RECORD_SIZE = 4096
MAX_TEXT = RECORD_SIZE - 86 - 16 - 1
BODY_CHARACTERS = 500
# Who is out of reach for longer than a day reads it in the dashboard.
TTL_S = 24 * 3600
# RFC 8292, section 2: at most 24 hours.
VAPID_S = 12 * 3600
TIMEOUT_S = 20
# RFC 8030, section 7.3: the subscription is no longer valid.
GONE = frozenset({404, 410})
AUTH_BYTES = 16


class SubscriptionGone(DeliveryFailed):
    """The browser does not want to hear of us any more; not worth another try."""

    permanent = True


@dataclass(frozen=True, slots=True)
class Subscription:
    """What `PushManager.subscribe()` gave. `endpoint` is as secret as a password."""

    endpoint: str = field(repr=False)
    p256dh: bytes
    """The browser's public key: 65 bytes, an uncompressed point on P-256."""
    auth: bytes = field(repr=False)
    """16 bytes."""

    @classmethod
    def of(cls, endpoint: str, p256dh: str, auth: str) -> Subscription:
        """From the base64url of the browser's JSON. Raises InvalidInput."""
        try:
            made = cls(endpoint, unpadded(p256dh), unpadded(auth))
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), made.p256dh)
        except ValueError:
            raise InvalidInput("keys.p256dh is no public key of a browser") from None
        if len(made.auth) != AUTH_BYTES:
            raise InvalidInput(f"keys.auth takes {AUTH_BYTES} bytes in base64url")
        return made


@dataclass(frozen=True, slots=True)
class Sender:
    """Us, as a push service knows us: by a key of our own and an address to complain to."""

    key: ec.EllipticCurvePrivateKey
    contact: str
    """https: or mailto:, RFC 8292, section 2.1."""

    async def send(
        self, http: httpx.AsyncClient, subscription: Subscription, message: Message
    ) -> None:
        """Raises SubscriptionGone, DeliveryFailed; neither tells the endpoint."""
        body = encrypt(subscription, payload(message), ec.generate_private_key(ec.SECP256R1()))
        try:
            answer = await http.post(
                subscription.endpoint,
                content=body,
                headers=self._headers(subscription.endpoint, message),
                timeout=TIMEOUT_S,
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DeliveryFailed(
                f"the push service cannot be reached ({type(error).__name__})"
            ) from None
        if answer.status_code in GONE:
            raise SubscriptionGone("the browser has ended its subscription")
        if not answer.is_success:
            raise DeliveryFailed(f"the push service answered {answer.status_code}")

    def _headers(self, endpoint: str, message: Message) -> dict[str, str]:
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(time.time()) + VAPID_S,
            "sub": self.contact,
        }
        token = jwt.encode(claims, self.key, algorithm="ES256")
        return {
            "Authorization": f"vapid t={token}, k={public_key(self.key)}",
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL_S),
            "Urgency": "high" if message.failure else "normal",
        }


def payload(message: Message) -> bytes:
    """What the page's service worker shows: `title`, `body`, `url`, `tag`."""
    shown = {
        "title": message.title[:200],
        "body": message.body[:BODY_CHARACTERS],
        "url": message.path,
        "tag": message.tag,
    }
    # As it is: escapes would make one character of Japanese six bytes.
    return json.dumps(shown, ensure_ascii=False).encode()


def encrypt(
    subscription: Subscription,
    text: bytes,
    ours: ec.EllipticCurvePrivateKey,
    salt: bytes | None = None,
) -> bytes:
    """One record that only the browser can read. `ours` and `salt` must be of this message alone.

    Raises ValueError for more than MAX_TEXT bytes."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a push message takes at most {MAX_TEXT} bytes")
    salt = salt or os.urandom(16)
    sender, receiver = _point(ours), subscription.p256dh
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), receiver)
    shared = ours.exchange(ec.ECDH(), theirs)
    # RFC 8291, section 3.4, then RFC 8188, sections 2.2 and 2.3.
    secret = _hkdf(subscription.auth, shared, b"WebPush: info\0" + receiver + sender, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    header = salt + RECORD_SIZE.to_bytes(4, "big") + bytes([len(sender)]) + sender
    # 2 marks the last record.
    return header + AESGCM(key).encrypt(nonce, text + b"\x02", None)


def new_key() -> str:
    """A VAPID key of our own, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def public_key(key: ec.EllipticCurvePrivateKey) -> str:
    """What a browser takes as `applicationServerKey`: base64url of the uncompressed point."""
    return base64.urlsafe_b64encode(_point(key)).rstrip(b"=").decode()


def unpadded(text: str) -> bytes:
    """Raises ValueError for what is no base64url."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)

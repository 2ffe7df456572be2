from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from streamvault.errors import InvalidInput
from streamvault.notify.push import MAX_TEXT, Subscription, encrypt, payload
from streamvault.notify.targets import Message
from tests.browser import Browser, base64url, plain

# RFC 8291, appendix A.
TEXT = b"When I grow up, I want to be a watermelon"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
RECEIVER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
MESSAGE = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def key_of(number: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(plain(number), "big"), ec.SECP256R1())


def test_the_example_of_the_rfc_comes_out_byte_by_byte() -> None:
    subscription = Subscription.of("https://push.example/x", RECEIVER, AUTH)
    sealed = encrypt(subscription, TEXT, key_of(SENDER), plain(SALT))
    assert base64url(sealed) == MESSAGE


@given(st.text(), st.text(min_size=1))
def test_whatever_a_title_holds_the_browser_reads_it(title: str, body: str) -> None:
    browser = Browser("https://push.example/x")
    text = payload(Message(title, body, path="/watch/1", tag="1"))
    sealed = encrypt(browser.subscription, text, ec.generate_private_key(ec.SECP256R1()))
    assert browser.read(sealed) == {
        "title": title[:200],
        "body": body[:500],
        "url": "/watch/1",
        "tag": "1",
    }


def test_the_longest_message_fits_into_one_record() -> None:
    text = payload(Message("\U0001f600" * 300, "\U0001f600" * 2000, path="/watch/" + "0" * 36))
    assert len(text) <= MAX_TEXT


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [
        ("", AUTH),
        (RECEIVER[:-4], AUTH),
        ("B" + "A" * 86, AUTH),
        ("é" * 87, AUTH),
        (RECEIVER, ""),
        (RECEIVER, AUTH[:-4]),
        (RECEIVER, "!!!"),
    ],
)
def test_keys_that_are_none_are_told(p256dh: str, auth: str) -> None:
    with pytest.raises(InvalidInput, match=r"keys\.(p256dh|auth)"):
        Subscription.of("https://push.example/x", p256dh, auth)

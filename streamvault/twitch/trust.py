"""Whom we believe to be Twitch."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi


def open_trust(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """The system's authorities, those that come with certifi, and `ca_bundle`."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(certifi.where())
    if ca_bundle:
        trust.load_verify_locations(ca_bundle)
    return trust

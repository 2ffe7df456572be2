"""What every answer tells the browser."""

from __future__ import annotations

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "img-src 'self' data: https://static-cdn.jtvnw.net",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "worker-src 'self'",
    )
)
# Recorded bytes are a stranger's: opened on their own, nothing in them runs. They keep their
# origin, since Chromium's own player could not load them without one.
FILE_SECURITY_POLICY = (
    "sandbox allow-same-origin; default-src 'none'; media-src 'self'; img-src 'self';"
    " frame-ancestors 'none'"
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
HSTS = "max-age=31536000"

"""A live HLS origin over TLS for load runs: many channels that serve one pool of segments.

`python -m benchmarks.origin FOLDER POOL CHANNELS` listens on a free port, writes it to
FOLDER/port, and serves /<channel>/live.m3u8 and /<channel>/<number>.ts until it is killed. The
pool is played once, from the moment the process starts: every number is other content.

Where there is an nginx it does the TLS and sends the segments, for a fraction of the CPU: the
recorders that are measured share the cores with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SEGMENT_S = 2.0
WINDOW = 8
"""Segments that a playlist lists: 16 s, so that nobody starts with much to catch up."""
TARGET_S = 6
"""What Twitch says for segments of 2 s."""
RATE_BPS = 6_000_000


def make_pool(ffmpeg: str, folder: Path, seconds: int) -> list[Path]:
    """Segments of 6 Mbit/s, encoded once per machine. The rate is that of the whole stream.

    60 frames a second, as in Twitch's 1080p60: ffmpeg pays by the packet. The picture is small,
    since its size is paid by the encoder alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"done-{seconds}"
    if not done.exists():
        for old in folder.glob("*.ts"):
            old.unlink()
        video = "5600k"
        rate = ("-b:v", video, "-minrate", video, "-maxrate", video, "-bufsize", "2800k")
        subprocess.run(
            [
                *(ffmpeg, "-v", "error", "-nostdin", "-y", "-f", "lavfi"),
                *("-i", "testsrc2=s=640x360:r=60,noise=alls=20:allf=t"),
                *("-f", "lavfi", "-i", "sine=r=48000", "-t", str(seconds)),
                *("-c:v", "libx264", "-preset", "ultrafast", "-g", "120", "-keyint_min", "120"),
                *("-sc_threshold", "0", "-x264-params", "nal-hrd=cbr", *rate),
                *("-c:a", "aac", "-b:a", "128k", "-f", "segment", "-segment_time", "2"),
                *("-segment_format", "mpegts", str(folder / "%04d.ts")),
            ],
            check=True,
        )
        done.touch()
    return sorted(folder.glob("*.ts"))


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority; returns its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "StreamVault benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class Live:
    """Channels start evenly spread over one segment's length, as they would in life."""

    def __init__(self, pool: list[bytes], channels: int) -> None:
        self._pool = pool
        self._channels = channels
        self._began = time.time()
        self.address = ""

    def playlist(self, channel: int) -> bytes:
        phase = SEGMENT_S * channel / self._channels
        newest = WINDOW + int((time.time() - self._began - phase) / SEGMENT_S)
        newest = min(newest, len(self._pool))
        first = max(0, newest - WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{TARGET_S}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for number in range(first, newest):
            date = datetime.fromtimestamp(self._began + phase + number * SEGMENT_S, UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat(timespec='milliseconds')}")
            lines.append(f"#EXTINF:{SEGMENT_S:.3f},live")
            # Absolute, as Twitch's are.
            lines.append(f"{self.address}/{channel}/{number:04}.ts")
        return "\n".join(lines).encode() + b"\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, channel, name = head.split(None, 2)[1].decode().split("/")
                if name == "live.m3u8":
                    body = self.playlist(int(channel))
                else:
                    body = self._pool[int(name.removesuffix(".ts"))]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def run(folder: Path, files: list[Path], channels: int) -> None:
    live = Live([path.read_bytes() for path in files], channels)
    if nginx := shutil.which("nginx"):
        server = await asyncio.start_server(live.serve, "127.0.0.1", 0)
        port = _start_nginx(nginx, folder, files[0].parent, server.sockets[0].getsockname()[1])
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        server = await asyncio.start_server(live.serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
    live.address = f"https://127.0.0.1:{port}"
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").rename(folder / "port")
    await server.serve_forever()


def _start_nginx(nginx: str, folder: Path, pool_folder: Path, playlists_port: int) -> int:
    """In one process, which dies with this one; returns its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "nginx.conf").write_text(
        "daemon off; master_process off; error_log stderr crit;\n"
        f"pid {folder}/nginx.pid;\n"
        "events { worker_connections 4096; }\n"
        "http {\n"
        "  access_log off; keepalive_timeout 1h; keepalive_requests 1000000;\n"
        f"  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        "  open_file_cache max=4096;\n"
        "  server {\n"
        f"    listen 127.0.0.1:{port} ssl backlog=1024;\n"
        f"    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;\n"
        "    ssl_protocols TLSv1.3;\n"
        f"    location ~ [.]ts$ {{ root {pool_folder}; rewrite ^/[0-9]+/(.*)$ /$1 break; }}\n"
        f"    location / {{ proxy_pass http://127.0.0.1:{playlists_port}; }}\n"
        "  }\n"
        "}\n"
    )
    command = ["setpriv", "--pdeathsig", "KILL", nginx, "-p", folder, "-c", folder / "nginx.conf"]
    subprocess.Popen([str(word) for word in command])
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return port
        time.sleep(0.05)
    raise RuntimeError("nginx does not answer")


if __name__ == "__main__":
    segments = sorted(Path(sys.argv[2]).resolve().glob("*.ts"))
    uvloop.run(run(Path(sys.argv[1]), segments, int(sys.argv[3])))

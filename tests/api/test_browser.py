"""What a real browser does with our pages and files, and what a foreign page can do to us."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.async_api import Page, async_playwright
from starlette.responses import HTMLResponse
from starlette.types import Message, Receive, Scope, Send

from streamvault.media.ffmpeg import find_ffmpeg

from .conftest import Opened
from .serving import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield await browser.new_page()
        await browser.close()


@pytest.fixture
def answered() -> list[tuple[str, int]]:
    """Method and status of every request that reached `address`."""
    return []


@pytest.fixture
async def address(app: FastAPI, answered: list[tuple[str, int]]) -> AsyncIterator[str]:
    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append((scope["method"], message["status"]))
            await send(message)

        await app(scope, receive, note)

    async with served(noting) as where:
        yield where


@pytest.fixture
def movie(library: Path) -> str:
    """A picture of 2 s in the library; its path there."""
    picture = ["-f", "lavfi", "-i", "testsrc=duration=2:size=160x90", "-pix_fmt", "yuv420p"]
    subprocess.run([find_ffmpeg(None).path, "-v", "error", *picture, library / "a.mp4"], check=True)
    return "a.mp4"


async def test_the_first_page_and_a_file_open_in_a_tab(
    page: Page, address: str, movie: str, opened: Opened
) -> None:
    await opened(path=movie, title="<b>bold</b>")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(address)
    assert "<b>bold</b>" in await page.inner_text("body")
    assert complaints == []

    await page.click("text=file")
    await page.wait_for_selector("video")
    # The element's own state: 4 is HAVE_ENOUGH_DATA.
    await page.wait_for_function("document.querySelector('video').readyState == 4")
    assert await page.evaluate("document.querySelector('video').duration") == 2


async def test_a_foreign_page_neither_reads_nor_changes(
    page: Page, address: str, answered: list[tuple[str, int]], opened: Opened
) -> None:
    foreign = FastAPI()
    foreign.get("/")(lambda: HTMLResponse("<p>foreign</p>"))
    stop = f"{address}/api/recordings/{await opened()}/stop"
    attempts = [
        f"fetch('{address}/api/recordings')",
        f"fetch('{stop}', {{method: 'POST'}})",
        # This one is sent without asking first; only its answer is kept from the page.
        f"fetch('{stop}', {{method: 'POST', mode: 'no-cors'}})",
    ]
    async with served(foreign) as elsewhere:
        await page.goto(elsewhere)
        for attempt in attempts:
            told = f"{attempt}.then(() => 'told', () => 'not told')"
            assert await page.evaluate(told) == "not told"
    assert answered == [("GET", 200), ("POST", 403), ("POST", 403)]

"""The browser that the tests drive the page with, and what they do in it."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NO_CALLS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-sync --no-first-run "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser, none is found: {', '.join(BROWSERS)}"
)
PATIENCE = 120_000  # milliseconds; the network may be compiled meanwhile
expect.set_options(timeout=PATIENCE)


def judged(page: Page, file: Path) -> None:
    """Gives the page a file and waits for what it says."""
    page.locator("#file").set_input_files(file)
    page.locator("#verdict .file", has_text=file.name).and_(
        page.locator("[role=status] *")
    ).wait_for(timeout=PATIENCE)

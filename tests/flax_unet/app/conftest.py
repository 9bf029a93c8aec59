"""The browser, started once."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.flax_unet.app.browser import BROWSER, NO_CALLS


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=NO_CALLS.split())
        yield browser
        browser.close()

import shutil

import pytest

from tests.inference.conftest import Server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install chromium to see the page drawn")
def test_the_documentation_page_draws_itself_and_tries_a_predict(server: Server) -> None:
    from playwright.sync_api import sync_playwright

    console: list[str] = []
    urls: set[str] = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: console.append(f"pageerror: {error}"))
        page.on("request", lambda request: urls.add(request.url))
        page.goto(f"{server.url}/docs")
        page.click("#operations-recommendations-predict_predict_post .opblock-summary-control")
        page.click("text=Try it out")
        page.click("text=Execute")
        page.wait_for_selector(".live-responses-table .response-col_status")
        answer = page.inner_text(".live-responses-table .response")
        browser.close()
    assert "200" in answer
    assert '"model_version": "v1"' in answer
    assert all(url.startswith((f"{server.url}/", "data:")) for url in urls)
    assert [line for line in console if line.startswith(("error", "pageerror"))] == []

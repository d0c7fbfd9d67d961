"""The page at `/` and the routes behind it, in a real browser."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.page import PAGE, page_policy
from tests.inference.conftest import Server
from tests.inference.test_server import StartServer, metric
from tests.inference.tiny_bundle import article_id, customer_id

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install chromium")


def test_the_page_allows_its_own_script_and_style_and_nothing_else(server: Server) -> None:
    answer = server.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy == page_policy(PAGE.read_bytes())
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    html = answer.text
    assert html.count("<script>") == html.count("<style>") == 1
    assert " style=" not in html  # the policy would not let it work
    assert "onclick=" not in html


def test_articles_are_found_by_name(server: Server) -> None:
    articles = server.get("/articles?q=article%207&limit=3").json()["articles"]
    assert article_id(7) in [one["article_id"] for one in articles]
    facts = {"article_id": article_id(37), "name": "Article 37", "index_group": "index_group 1", "is_live": False}
    assert server.get("/articles?q=article%2037").json() == {"articles": [facts]}
    many = server.get("/articles?q=article&limit=50").json()["articles"]
    assert [one["is_live"] for one in many] == [True] * 30 + [False] * 10


@pytest.mark.parametrize("query", ["", "?q=a&limit=0", "?q=a&limit=51", f"?q={'a' * 81}"])
def test_a_search_that_asks_too_much_is_refused_in_the_envelope(server: Server, query: str) -> None:
    answer = server.get(f"/articles{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


def test_searches_beyond_a_few_at_once_are_refused_at_once(server: Server) -> None:
    def search(_: int) -> httpx.Response:
        return server.get("/articles?q=nothing-has-this")

    with ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(search, range(120)))
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
    assert search(0).json() == {"articles": []}


def test_a_customers_purchases_are_told_newest_first(server: Server) -> None:
    history = httpx.post(f"{server.url}/customers/history", json={"customer_id": customer_id(1)}).json()
    assert (history["is_known"], history["n_purchases"]) == (True, 2)
    assert [(one["article_id"], one["bought"]) for one in history["purchases"]] == [
        (article_id(3), "yesterday"),
        (article_id(7), "21 days ago"),
    ]
    stranger = httpx.post(f"{server.url}/customers/history", json={"customer_id": "x"}).json()
    assert stranger == {"is_known": False, "n_purchases": 0, "purchases": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"{}", 422),
        (b'{"customer_id": 5}', 422),
        (b" " * 70_000, 413),
        (b'{"customer_id": "a", "customer_id": "b"}', 400),
    ],
)
def test_a_question_for_purchases_that_is_wrong_is_refused_in_the_envelope(
    server: Server, body: bytes, status: int
) -> None:
    answer = httpx.post(f"{server.url}/customers/history", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_what_filters_can_be_set_to_is_told(server: Server) -> None:
    shop = server.get("/shop").json()
    assert shop["index_groups"] == ["index_group 0", "index_group 1"]
    assert (shop["n_articles"], shop["n_live"], shop["price_min"], shop["price_max"]) == (40, 30, 1.0, 30.0)
    assert server.get("/customers/sample").json() == {"customers": [customer_id(1), customer_id(2)]}


def test_without_the_page_its_routes_are_gone(start_server: Callable[..., Server], tiny_bundle: Path) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle), PAGE="false")
    server.wait_for_version("v1")
    for path in ("/", "/articles?q=a", "/customers/sample", "/shop"):
        assert server.get(path).status_code == 404
    assert server.predict({}).status_code == 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_history_is_built_and_twelve_answers_are_seen(server: Server, browser: Any, width: int, scheme: str) -> None:
    console: list[str] = []
    urls: set[str] = set()
    page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
    page.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: console.append(f"pageerror: {error}"))
    page.on("request", lambda request: urls.add(request.url))
    page.goto(server.url)
    page.wait_for_selector(".article >> nth=11")
    assert page.input_value("#customer") == customer_id(1)  # one is picked, so that there is something to see
    assert "model v1, " in page.inner_text("#model")
    page.wait_for_selector("#purchases li")
    assert "2 purchases known" in page.inner_text("#known")

    page.click("#clear")
    page.wait_for_selector("#what:text-is('What is popular now')")
    page.fill("#search", "article 5")
    page.click("#found button")
    page.wait_for_selector("#what:text-is('From what was bought')")
    assert page.inner_text(".article >> nth=0 >> strong") == "Article 5"
    assert page.inner_text(".article >> nth=0 >> .why")
    page.click(".article >> nth=0 >> summary")
    assert page.is_visible(".article >> nth=0 >> dl")
    page.click("#code summary")
    assert f'"{article_id(5)}"' in page.inner_text("#request")

    page.fill("#least", "5")
    page.fill("#most", "6")
    page.wait_for_selector("#problem:not([hidden])")
    assert "2 live articles match the filters, fewer than top_k 12" in page.inner_text("#problem")
    page.fill("#most", "")
    page.wait_for_selector(".article >> nth=11")
    assert not page.is_visible("#problem")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert all(url.startswith((f"{server.url}/", "data:")) for url in urls)
    refused = [line for line in console if line.startswith(("error", "pageerror")) and "422" not in line]
    assert refused == []
    page.context.close()


@pytest.mark.browser
@needs_chromium
def test_a_server_with_tokens_is_shown_once_a_token_is_given(
    start_server: Callable[..., Server], tiny_bundle: Path, tmp_path: Path, browser: Any
) -> None:
    (tmp_path / "tokens").write_text(f"shop:{hashlib.sha256(b'secret').hexdigest()}\n")
    server = start_server(MODEL_URI=str(tiny_bundle), API_TOKENS_FILE=str(tmp_path / "tokens"))
    server.wait_for_version("v1")
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#login:not([hidden])")
    page.fill("#token", "secret")
    page.click("#enter")
    page.wait_for_selector(".article >> nth=11")
    assert page.is_hidden("#login")
    assert page.is_hidden("#problem")
    page.close()


def test_a_cache_that_is_cleaned_up_under_the_server_leaves_the_page_and_the_documentation(
    start_server: StartServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    shutil.rmtree(tmp_path / "cache")
    assert server.get("/customers/sample").json() == {"customers": []}
    paths = ("/", "/docs", "/openapi.json", "/articles?q=article", "/shop", "/shift", "/metrics")
    assert {path: server.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)


def test_a_route_that_fails_is_counted_and_logged_under_its_request_id(
    start_server: StartServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    server = start_server(MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    (golden,) = (tmp_path / "cache").rglob("golden.json")
    golden.write_text("{")
    answer = httpx.get(f"{server.url}/customers/sample", headers={"X-Request-ID": "broken"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert metric(server, "http_requests_total", route="/customers/sample", status="500") == 1
    assert [line["request_id"] for line in server.events("request_failed")] == ["broken"]
    assert [line["status"] for line in server.events("request") if line["request_id"] == "broken"] == [500]

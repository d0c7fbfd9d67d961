import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from inference.errors import SettingsInvalid
from inference.tokens import Tokens
from tests.inference.conftest import Server

StartServer = Callable[..., Server]


def line(name: str, token: str) -> str:
    return f"{name}:{hashlib.sha256(token.encode()).hexdigest()}\n"


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]


def test_a_server_with_tokens_answers_health_and_pages_to_all_and_the_rest_to_whom_it_knows(
    start_server: StartServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text("# the shop\n\n" + line("shop", "secret-1"))
    server = start_server(MODEL_URI=str(tiny_bundle), API_TOKENS_FILE=str(file))
    server.wait_for_version("v1")
    for path in ("/", "/healthz", "/livez", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json"):
        assert server.get(path).status_code == 200, path
    for path in ("/metrics", "/shift", "/articles?q=x", "/customers/sample", "/shop", "/predict", "/nowhere"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_token"), path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert server.predict({}, Authorization="Bearer secret-1").status_code == 200
    for wrong in ("Bearer secret-2", "Basic secret-1", "secret-1", "Bearer", "Bearer é"):
        answer = httpx.post(f"{server.url}/predict", json={}, headers={b"Authorization": wrong.encode()})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "wrong_token"), wrong
    file.write_text(line("shop", "secret-1") + line("shop", "secret-2"))
    server.wait_for(lambda: server.predict({}, Authorization="Bearer secret-2").status_code == 200, "the new token")
    assert server.predict({}, Authorization="Bearer secret-1").status_code == 200
    file.write_text(line("shop", "secret-2"))
    server.wait_for(lambda: server.predict({}, Authorization="Bearer secret-1").status_code == 401, "the old one gone")
    assert server.get("/healthz").json()["tokens_refusal"] is None
    file.write_text("secret-3\n" + line("shop", "secret-2"))
    server.wait_for(
        lambda: server.predict() and "line 1 is not" in (server.get("/healthz").json()["tokens_refusal"] or ""),
        "what is wrong",
    )
    assert server.predict({}, Authorization="Bearer secret-2").status_code == 200
    assert "secret-" not in server.log_path.read_text()


@pytest.mark.timeout(10)
def test_a_pipe_by_the_name_of_the_file_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens")
    with pytest.raises(SettingsInvalid, match="not a regular file"):
        Tokens(tmp_path / "tokens")


def test_a_port_of_its_own_for_metrics_needs_no_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(line("shop", "secret-1"))
    assert Tokens(tmp_path / "tokens", ("/metrics",)).refusal("/metrics", []) is None
    assert Tokens(tmp_path / "tokens").refusal("/metrics", []) is not None


def test_a_file_that_can_be_read_is_obeyed_and_one_that_cannot_keeps_those_who_had_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line("shop", "secret-1"))
    clock = [0.0]
    tokens = Tokens(file, now=lambda: clock[0])

    def good() -> list[str]:
        clock[0] += 2
        return [name for name in ("secret-1", "secret-2") if tokens.refusal("/predict", bearer(name)) is None]

    assert (good(), tokens.reason) == (["secret-1"], "")
    file.write_text("secret-2\n" + line("shop", "secret-1"))
    assert good() == ["secret-1"]
    assert tokens.reason.startswith("line 1 is not name:sha256")
    name, _, digest = line("shop", "secret-2").partition(":")
    file.write_text(f"{name}:{digest.upper()}")
    assert (good(), tokens.reason) == (["secret-2"], "")
    file.unlink()
    assert good() == ["secret-2"]
    assert "cannot be read (No such file" in tokens.reason
    for nobody in ("", "# none\n", "secret-1\n"):
        file.write_text(nobody)
        assert good() == []
        assert tokens.reason
    file.write_text(line("shop", "secret-1"))
    assert (good(), tokens.reason) == (["secret-1"], "")
    file.write_text(" " * (1 << 20) + "\n")  # it may hold more than was read
    assert good() == ["secret-1"]
    assert "larger than 1,048,576 bytes" in tokens.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "holds no token"),
        ("shop:abc", "line 1 is not name:sha256"),
        ("# x\n\nmy-token", "line 3"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsInvalid) as refused:
        Tokens(file)
    assert f"API_TOKENS_FILE={file}: " in str(refused.value)
    assert message in str(refused.value)
    assert "my-token" not in str(refused.value)


def test_the_server_then_ends_with_2(tmp_path: Path) -> None:
    environment = os.environ | {"API_TOKENS_FILE": str(tmp_path / "none"), "API_PORT": "0"}
    done = subprocess.run([sys.executable, "-m", "inference"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("error: API_TOKENS_FILE=")) == (2, 1)


def test_a_token_that_was_made_is_good(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "inference.tokens", "shop"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    token, entry = (text.split()[-1] for text in made)
    (tmp_path / "tokens").write_text(entry)
    tokens = Tokens(tmp_path / "tokens")
    assert tokens.refusal("/predict", bearer(token)) is None
    assert len(token) >= 40

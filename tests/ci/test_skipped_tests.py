"""The check that CI does not pass by skipping."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "skipped_tests.py"
TESTS = """
import pytest

def test_runs(): pass

@pytest.mark.skip(reason="needs the real sample in ../shared/data/hm")
def test_on_the_sample(): pass

@pytest.mark.skip(reason="a small disk needs root")
def test_as_root(): pass

@pytest.mark.skip(reason="no Chromium on this machine")
def test_in_a_browser(): pass

@pytest.mark.xfail(reason="known")
def test_expected_to_fail(): assert False
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the report of a real pytest run; `../shared` may be made beside it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=tests.xml", "--rootdir=."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def run_check(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, SCRIPT, "tests.xml"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "CI"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_ci_refuses_a_skip_that_nothing_excuses(checkout: Path) -> None:
    done = run_check(checkout, CI="true")
    assert done.returncode == 1
    assert "test_in_a_browser: no Chromium on this machine" in done.stderr
    assert "error: 1 tests were skipped on CI" in done.stderr


def test_a_missing_sample_excuses_only_where_it_is_missing(checkout: Path) -> None:
    assert "test_on_the_sample" not in run_check(checkout, CI="true").stderr
    (checkout.parent / "shared").mkdir()
    done = run_check(checkout, CI="true")
    assert "test_on_the_sample" in done.stderr
    assert "error: 2 tests were skipped on CI" in done.stderr
    assert "test_expected_to_fail" not in done.stderr


def test_what_needs_root_is_excused(checkout: Path) -> None:
    """Runners of GitHub run tests as a user."""
    assert "test_as_root" not in run_check(checkout, CI="true").stderr


def test_outside_ci_skips_are_only_listed(checkout: Path) -> None:
    done = run_check(checkout)
    assert done.returncode == 0
    assert "skipped: " in done.stderr

import sys
from pathlib import Path

import pytest

from pipelines.steps.fingerprint import canonical_json, code_sha256, step_fingerprint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a package with a module, a template and a sub-package."""
    folder = tmp_path / "shop_code"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('hashing must not import')")
    (folder / "inner/rules.py").write_text("LIMIT = 1\n")
    (folder / "page.html").write_text("<p>")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.mark.parametrize("changed", ["inner/rules.py", "page.html", "new.py"])
def test_every_file_of_a_package_counts(package: Path, changed: str) -> None:
    before = code_sha256("shop_code")
    (package / changed).write_text("changed")
    assert code_sha256("shop_code") != before


def test_moving_code_between_files_counts(package: Path) -> None:
    before = code_sha256("shop_code")
    (package / "inner/rules.py").rename(package / "inner/laws.py")
    assert code_sha256("shop_code") != before


def test_caches_and_hidden_files_do_not_count(package: Path) -> None:
    before = code_sha256("shop_code")
    (package / "__pycache__").mkdir()
    (package / "__pycache__/rules.cpython-311.pyc").write_bytes(b"\0")
    (package / ".rules.py.swp").write_text("x")
    assert code_sha256("shop_code") == before


def test_a_package_is_not_imported_for_its_hash(package: Path) -> None:
    code_sha256(package.name)
    assert package.name not in sys.modules


def test_an_unknown_module_is_a_bug_of_the_step() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"'pipelines\.nowhere'"):
        code_sha256("pipelines.nowhere")


def test_a_library_counts_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    metadata = tmp_path / "shoplib-1.0.dist-info"
    metadata.mkdir()
    fingerprints = set()
    for version in ("1.0", "1.1", "1.0"):
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shoplib\nVersion: {version}\n")
        fingerprints.add(step_fingerprint("train", {}, {}, [], ["shoplib"]))
    assert len(fingerprints) == 2


def test_order_of_names_does_not_count() -> None:
    one = step_fingerprint("eda", {"a": 1, "b": 2}, {}, ["pipelines.errors", "pipelines.logs"], ["polars", "numpy"])
    two = step_fingerprint("eda", {"b": 2, "a": 1}, {}, ["pipelines.logs", "pipelines.errors"], ["numpy", "polars"])
    assert one == two


def test_values_without_one_json_form_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"share": float("nan")})

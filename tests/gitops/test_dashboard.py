"""The dashboard as Grafana will read it: panels beside each other, units, one data source, queries that parse."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[2] / "gitops/manifests/monitoring/dashboards/fashion-recommender.json"
DASHBOARD = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
WIDTH = 24  # columns of a dashboard


def test_no_panel_lies_on_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} on {taken[cell]}"
            taken[cell] = panel["title"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_every_panel_has_a_unit_and_the_data_source_that_is_chosen() -> None:
    [source] = [v["name"] for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource"]
    for panel in DRAWN:
        assert panel["fieldConfig"]["defaults"].get("unit"), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{source}}}"}, panel["title"]
        assert all(target["expr"] for target in panel["targets"]), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]


def test_every_query_follows_the_choice_of_a_namespace() -> None:
    """`$namespace` for the service, `$training` for runs; a query without one would show every environment."""
    for panel in DRAWN:
        for target in panel["targets"]:
            assert any(f'namespace=~"${name}"' in target["expr"] for name in ("namespace", "training")), panel["title"]


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here (Debian: apt-get install --no-install-recommends prometheus)")
    queries = [target["expr"] for panel in DRAWN for target in panel["targets"]]
    queries = [query.replace("$__rate_interval", "5m") for query in queries]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

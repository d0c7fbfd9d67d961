"""Run yamllint over every file, with the tree's own .yamllint, and read every file of JSON."""

import json
from collections.abc import Iterator
from functools import cache

from yamllint import linter
from yamllint.config import YamlLintConfig

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Tree


def check_style(tree: Tree) -> Iterator[Finding]:
    """Give every problem, syntax errors included."""
    own = tree.root / ".yamllint"
    rules = own.read_text(encoding="utf-8") if own.is_file() else "extends: default"
    for path in tree.yaml_files:
        for line, column, what in _problems(path.read_text(encoding="utf-8"), rules):
            yield Finding(tree.shown(path), f"line {line}, column {column}", what, "mend that line")
    for path in sorted(tree.root.rglob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            yield Finding(tree.shown(path), "", f"{error} (syntax)", "mend that line")


@cache
def _problems(text: str, rules: str) -> tuple[tuple[int, int, str], ...]:
    """Lint one file; remembered, because yamllint takes longer than everything else together."""
    found = linter.run(text, YamlLintConfig(rules))
    return tuple((problem.line, problem.column, f"{problem.desc} ({problem.rule or 'syntax'})") for problem in found)

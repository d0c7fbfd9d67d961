"""Run yamllint over every file, with the tree's own .yamllint."""

from collections.abc import Iterator

from yamllint import linter
from yamllint.config import YamlLintConfig

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Tree


def check_style(tree: Tree) -> Iterator[Finding]:
    """Give every problem, syntax errors included."""
    own = tree.root / ".yamllint"
    config = YamlLintConfig(file=str(own)) if own.is_file() else YamlLintConfig("extends: default")
    for path in tree.yaml_files:
        with path.open(encoding="utf-8") as file:
            for problem in linter.run(file, config, str(path)):
                where = f"line {problem.line}, column {problem.column}"
                yield Finding(tree.shown(path), where, f"{problem.desc} ({problem.rule or 'syntax'})", "mend that line")

"""Is there a secret in git?"""

import re
from collections.abc import Iterator

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Rendered, Tree, label

# Shapes that nothing else has; a bare password cannot be told from a word, so Secrets with values are refused whole.
SHAPES = {
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": r"(?i)aws_secret_access_key['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "a Slack webhook": r"https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/\w{16,}",
}
MEND = "take it out and revoke it; an ExternalSecret names where the value is kept"


def check_files(tree: Tree) -> Iterator[Finding]:
    """Look into every text file of the tree."""
    for path in sorted(path for path in tree.root.rglob("*") if path.is_file()):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, shape in SHAPES.items():
            if match := re.search(shape, text):
                line = text.count("\n", 0, match.start()) + 1
                yield Finding(tree.shown(path), f"line {line}", f"looks like {what}", MEND)


def check_secrets(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Refuse Secrets that carry values."""
    for document in rendered.of_kind("Secret"):
        if document.get("data") or document.get("stringData"):
            file = tree.shown(rendered.file_of(document))
            yield Finding(file, f"{label(document)}.data", "is a secret in git", MEND)

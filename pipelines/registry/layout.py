"""Where each part of a version lies in the lake."""


def bundle_folder(version: str) -> str:
    return f"registry/bundles/{version}"


def evaluation_folder(version: str) -> str:
    """Where the model as it was evaluated lies: fitted before the cutoff, so that later ones can be held against it."""
    return f"registry/evaluations/{version}"


def contents_key(version: str) -> str:
    """Hashes of all that is uploaded under a version, written first: it binds the name."""
    return f"registry/contents/{version}.json"


def note_key(version: str) -> str:
    """Who deleted a version, when and why."""
    return f"registry/pruned/{version}.json"

"""Refuse skipped tests where nothing excuses them: on CI everything that a test may lack is there, or was installed.

python .ci/skipped_tests.py JUNIT_XML
"""

import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

SAMPLE = Path("../shared")


def unexcused_skips(junit_xml: Path, *, sample_is_here: bool) -> Iterator[str]:
    """Give `test: reason` of skipped tests.

    Excuses are the missing sample, while it is missing, and root's rights, which a runner does not give.
    """
    for case in ElementTree.parse(junit_xml).iter("testcase"):
        for skipped in case.iter("skipped"):
            reason = skipped.get("message", "")
            is_excused = "needs root" in reason or ("shared" in reason and not sample_is_here)
            if skipped.get("type") != "pytest.xfail" and not is_excused:
                yield f"{case.get('classname')}::{case.get('name')}: {reason}"


if __name__ == "__main__":
    found = list(unexcused_skips(Path(sys.argv[1]), sample_is_here=SAMPLE.is_dir()))
    for line in found:
        print(f"skipped: {line}", file=sys.stderr)
    if found and os.environ.get("CI") == "true":
        sys.exit(f"error: {len(found)} tests were skipped on CI; each must run there, or its reason must be mended")

"""The commands of docs/tutorial.md, in their order."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
#: What the page says of where `make try` writes.
WHERE = "~/.cache/cutover/stacks/try"


def commands() -> list[str]:
    """Return each command that a reader types, as a line."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]

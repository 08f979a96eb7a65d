"""Writes the dashboards' JSON into the chart; with ``--check`` it says whether it is current, and changes nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet, plan

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "cutover" / "files" / "dashboards"


def rendered() -> dict[str, str]:
    """Return the text of each file, by its name."""
    made = {"fleet.json": fleet.board(), "plan.json": plan.board()}
    return {name: json.dumps(one, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n" for name, one in made.items()}


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the files are current")
    check = parser.parse_args().check
    for name, text in rendered().items():
        file = FOLDER / name
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            sys.exit(f"{file.relative_to(ROOT)} is not what hack/dashboards makes: run make docs")
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

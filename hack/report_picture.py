"""Draws the head of a report into docs/images: ``python -m report_picture REPORT.html``.

``kubectl cutover report PLAN --output REPORT.html`` makes such a page of a cluster, such as that of ``make demo KEEP=1``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from browser import open_page

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "report.png"


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(prog="report_picture", description=__doc__)
    parser.add_argument("report", type=Path)
    open_page(parser.parse_args().report, "--window-size=1060,700", f"--screenshot={PICTURE}")


if __name__ == "__main__":
    main()

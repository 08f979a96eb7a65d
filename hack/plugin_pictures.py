"""Draws kubectl-cutover's screens of a running cluster into docs/images: ``python -m plugin_pictures --kubeconfig FILE``.

``make demo KEEP=1`` or ``make try`` leave such a cluster running. The pictures are SVG with the reader's own monospaced font.
"""

from __future__ import annotations

import argparse
import io
import re
from datetime import UTC, datetime
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, RenderableType

from cutover.cli.cluster import Cluster, Target
from cutover.cli.session import readable
from cutover.cli.views.screen import screen
from cutover.cli.views.table import board, rows
from cutover.domain.resources import PLANS

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: Without fonts from elsewhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", "ui-monospace"
)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(prog="plugin_pictures", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", default="shop")
    parser.add_argument("--plan", default="pdf")
    options = parser.parse_args()
    cluster = Cluster.connect(Target(options.kubeconfig, namespace=options.namespace))
    bodies = cluster.objects(PLANS, options.namespace)
    now = datetime.now(UTC)
    (one,) = [body for body in bodies if body["metadata"]["name"] == options.plan]
    _draw("status", screen(readable(one), now, columns=90, height=26), "kubectl cutover status pdf", 90)
    live = board(rows(bodies, by_trouble=True), now, namespaces=False, problem="", height=16)
    _draw("watch", live, "kubectl cutover watch", 90)


def _draw(name: str, shown: RenderableType, title: str, columns: int) -> None:
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(shown)
    # An id of its own, so that the same screen gives the same file.
    text = console.export_svg(title=title, code_format=FORMAT, unique_id=f"kubectl-cutover-{name}")
    (IMAGES / f"kubectl-cutover-{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

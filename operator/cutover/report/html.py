"""A page as HTML: one file without scripts, and with nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from cutover.domain.texts import plain
from cutover.report.charts import bar
from cutover.report.page import Bar, Page

#: Characters from which on a cell gets more room, and up to which it is never broken, not in print either.
_LONG, _SHORT = 60, 20


def html(page: Page) -> str:
    """Return the page as a HTML document. All texts are escaped; only the charts are taken as they are."""
    return _template().render(page=page)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("cutover.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "drawn": bar, "kind": lambda it: type(it).__name__}
    environment.tests |= {"bar": lambda it: isinstance(it, Bar), "long": _long, "short": _short}
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "page.css")
    environment.globals["style"] = Markup(style.rstrip())  # our own file
    return environment.get_template("page.html.jinja")


def _long(cell: Any) -> bool:
    return isinstance(cell, str) and len(cell) > _LONG


def _short(cell: Any) -> bool:
    return not isinstance(cell, str) or len(cell) <= _SHORT

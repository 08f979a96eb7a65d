"""Which class an answer is in."""

from __future__ import annotations

import pytest

from cutover.domain.evidence.answers import NOBODYS_CODES, Answer, answer_of, is_error


@pytest.mark.parametrize(
    ("code", "heroku", "eks"),
    [
        ("200", Answer.OK, Answer.OK),
        ("204", Answer.OK, Answer.OK),
        ("304", Answer.OK, Answer.OK),
        ("301", Answer.REDIRECTED, Answer.REDIRECTED),
        ("302", Answer.REDIRECTED, Answer.REDIRECTED),
        ("400", Answer.REFUSED, Answer.REFUSED),
        ("401", Answer.REFUSED, Answer.REFUSED),
        ("404", Answer.REFUSED, Answer.REFUSED),
        ("421", Answer.ERROR, Answer.REFUSED),
        ("495", Answer.ERROR, Answer.REFUSED),
        ("429", Answer.THROTTLED, Answer.THROTTLED),
        ("500", Answer.ERROR, Answer.ERROR),
        ("504", Answer.ERROR, Answer.ERROR),
        ("0", Answer.NOBODY, Answer.NOBODY),
        ("101", Answer.NOBODY, Answer.NOBODY),
        ("499", Answer.NOBODY, Answer.NOBODY),
        ("", Answer.OK, Answer.OK),
    ],
)
def test_class_of_an_answer(code: str, heroku: Answer, eks: Answer) -> None:
    assert answer_of(code, heroku=True) is heroku
    assert answer_of(code, heroku=False) is eks
    assert (is_error(code, heroku=True), is_error(code, heroku=False)) == (heroku is Answer.ERROR, eks is Answer.ERROR)


def test_queries_leave_out_what_is_nobodys() -> None:
    assert all(answer_of(code, heroku=True) is Answer.NOBODY for code in NOBODYS_CODES.split("|"))

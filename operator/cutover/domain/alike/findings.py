"""What the answers to a plan's paths say: what changes for users by the takeover, and what differs between the legs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cutover.api.v1alpha1 import HerokuLeg
from cutover.domain.alike import advice
from cutover.domain.alike.comparison import Aspect, Noise, differences, noise_of
from cutover.domain.alike.page import Page
from cutover.domain.alike.sentences import told
from cutover.domain.texts import shorten


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer, in words for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class PathAnswers:
    """The answers to one path.

    Parameters
    ----------
    path
        The path.
    users
        As users have it now.
    heroku, again
        Of Heroku through the gateway, twice.
    eks
        Of EKS through the gateway.
    """

    path: str
    users: Page | NoAnswer
    heroku: Page | NoAnswer
    again: Page | NoAnswer
    eks: Page | NoAnswer


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about the answers to one path.

    Parameters
    ----------
    path
        The path.
    text
        What was found, for people.
    advice
        What to do about it.
    fails
        Whether users are worse off by the takeover.
    """

    path: str
    text: str
    advice: tuple[str, ...] = ()
    fails: bool = False


#: What an app on Heroku does otherwise for the way it is asked, once users' requests come by that way. The rest may be of a
#: CDN or a proxy before Heroku, which a team may keep.
_OF_THE_APP = (
    Aspect.STATUS,
    Aspect.LOCATION,
    Aspect.CONTENT_TYPE,
    Aspect.COOKIE_ATTRIBUTES,
    Aspect.LINK,
)


def findings(answers: Sequence[PathAnswers], host: str, heroku: HerokuLeg) -> tuple[Finding, ...]:
    """Return what the answers say, what fails first.

    Parameters
    ----------
    answers
        The answers to each path.
    host
        The public name that was asked for.
    heroku
        The Heroku leg of the plan.
    """
    found = [one for each in answers for one in (*_takeover(each, host, heroku), *_legs(each, host))]
    return tuple(sorted(found, key=lambda one: not one.fails))


def findings_of_legs(answers: Sequence[PathAnswers], host: str) -> tuple[Finding, ...]:
    """Return what differs between the legs' answers, once users have the operator's route.

    Parameters
    ----------
    answers, host
        As for :func:`findings`.
    """
    found = list[Finding]()
    for each in answers:
        if isinstance(each.heroku, NoAnswer):
            found.append(_silent(each.path, each.heroku))
        elif _noise(each) is None:
            found.append(_by_turns(each.path, each.heroku, each.again))
        found += _legs(each, host)
    return tuple(found)


#: Findings that are told, and characters of each and of the paths that it is about: the status has to have room for it.
MOST_FINDINGS, LONGEST_FINDING, LONGEST_PATHS = 4, 320, 100


def summary(found: Iterable[Finding]) -> str:
    """Return findings as one text: what was found, and then each advice once. Of very many, some are left out."""
    paths, advices = dict[str, list[str]](), dict[str, None]()
    for one in found:
        paths.setdefault(one.text, []).append(one.path)
        if len(paths) <= MOST_FINDINGS:
            advices |= dict.fromkeys(one.advice)
    told_of = [
        f"{shorten(', '.join(which), LONGEST_PATHS)}: {shorten(text, LONGEST_FINDING)}"
        for text, which in list(paths.items())[:MOST_FINDINGS]
    ]
    if len(paths) > MOST_FINDINGS:
        told_of.append(f"and {len(paths) - MOST_FINDINGS} more")
    return "; ".join(told_of) + (f". To do: {'; '.join(advices)}" if advices else "")


def _takeover(answers: PathAnswers, host: str, heroku: HerokuLeg) -> Iterator[Finding]:
    """Compare what users get now with what Heroku answers through the gateway."""
    path, users, later, url = answers.path, answers.users, answers.heroku, f"https://{host}{answers.path}"
    if isinstance(later, NoAnswer):
        served = isinstance(users, Page) and users.status < 500
        yield replace(_silent(path, later), fails=served)
        return
    if isinstance(users, NoAnswer):
        text = f"what users get now is not known ({users.reason})"
        if later.status < 300:
            yield Finding(path, text)
            return
        # Even without a comparison one answer is wrong for everybody: a redirect to where they are already.
        why = (advice.of_takeover(Aspect.STATUS, later.status, url, heroku),)
        yield Finding(path, f"{_HEROKU} {later.summary}; {text}", why, fails=later.location == url)
        return
    noise = _noise(answers)
    if noise is None:
        yield _by_turns(path, later, answers.again)
        return
    found = [
        one
        for one in differences(users, later, noise)
        if one.aspect is not Aspect.LINK or (one.name == heroku.hostname and one.now)
    ]
    better = users.status >= 400 > later.status
    for fails in (True, False):
        some = [one for one in found if (one.aspect in _OF_THE_APP and not better) is fails]
        if some:
            todo = tuple(advice.of_takeover(one.aspect, later.status, url, heroku) for one in some if not better)
            yield Finding(path, f"{_HEROKU} {', '.join(map(told, some))}", todo, fails)


#: How what was found of Heroku begins.
_HEROKU = "Heroku answers through the gateway with"


def _silent(path: str, heroku: NoAnswer) -> Finding:
    return Finding(path, f"Heroku gives no answer through the gateway ({heroku.reason})")


def _by_turns(path: str, heroku: Page, again: Page | NoAnswer) -> Finding:
    other = again.reason if isinstance(again, NoAnswer) else again.summary
    return Finding(
        path,
        f"Heroku answers by turns with {heroku.summary} and {other}; choose a path that is answered alike each time",
    )


def _legs(answers: PathAnswers, host: str) -> Iterator[Finding]:
    """Compare what both legs answer through the gateway."""
    path, heroku, eks = answers.path, answers.heroku, answers.eks
    if isinstance(eks, NoAnswer):
        yield Finding(path, f"EKS gives no answer ({eks.reason})")
        return
    noise = _noise(answers)
    if isinstance(heroku, NoAnswer) or noise is None:
        return
    if found := [one for one in differences(heroku, eks, noise) if one.aspect is not Aspect.LINK]:
        loops = eks.location == f"https://{host}{path}"
        why = tuple(advice.of_legs(one.aspect, eks.status, loops=loops) for one in found)
        yield Finding(path, f"EKS answers with {', '.join(map(told, found))}", why)


def _noise(answers: PathAnswers) -> Noise | None:
    """Return what differs between two answers of Heroku by itself; ``None`` where that is the answer as a whole."""
    if isinstance(answers.heroku, NoAnswer) or isinstance(answers.again, NoAnswer):
        return None
    noise = noise_of(answers.heroku, answers.again)
    return None if (Aspect.STATUS, "") in noise.aspects else noise

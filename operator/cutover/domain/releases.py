"""What changed on a leg since it was last looked at, and whether code or configuration changed on one leg only.

Whether both legs run the same cannot be known: a slug is no image, and values of config vars are not read. What is known is
which leg changed after the other. Releases and rollouts that answer each other leave the legs level; a person may say that
they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cutover.api.v1alpha1 import LegName, MigrationPlanStatus, NewReleases, ReleasesStatus
from cutover.domain.heroku import Certificate, HerokuApp, HerokuNews, Release
from cutover.domain.rollout import CODE, CONFIG, RESTART, Rollout, parts_changed
from cutover.domain.texts import fitted, plain, shorten

#: Seconds from a release on Heroku until its dynos alone answer: preboot moves requests three minutes late.
HEROKU_SETTLES_SECONDS = 180.0
#: The same from the end of a rollout: requests that its last Pods still answer.
EKS_SETTLES_SECONDS = 30.0
#: A rollout so soon after a release on Heroku follows it: of two releases in a row each has its rollout.
FOLLOWS = timedelta(minutes=30)
#: Before a certificate's last day.
WEEK = timedelta(days=7)
#: Releases that a message names, and characters of what Heroku says of each.
MOST_NAMED, LONGEST_DESCRIPTION = 4, 60
#: Changes that a person should look at now.
ALARMS = frozenset({"MaintenanceMode", "CertificateEnds"})
#: Process types that are kept, characters of a name, and of all hosts with their certificates' ends.
MOST_TYPES, LONGEST_NAME, LONGEST_HOSTS = 20, 40, 300


@dataclass(frozen=True, slots=True)
class Change:
    """A change that people are told of.

    Parameters
    ----------
    reason
        What kind of change, in one word for the ledger.
    message
        What changed, in a sentence.
    often
        Whether it comes so often that one entry for each weight is enough.
    releases
        Releases on Heroku that it is about.
    """

    reason: str
    message: str
    often: bool = False
    releases: NewReleases | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing.

    Parameters
    ----------
    status
        What each leg runs now.
    changes
        What changed, in the order in which it is told.
    """

    status: ReleasesStatus
    changes: tuple[Change, ...] = ()


def compare(
    before: ReleasesStatus, news: HerokuNews | None, rollout: Rollout | None, hosts: tuple[str, ...], now: float
) -> Compared:
    """Compare what the legs run with what they ran. What is seen for the first time is no change.

    Parameters
    ----------
    before
        What they ran when last looked at.
    news
        What Heroku's API says; ``None`` without a key for it.
    rollout
        What the workload runs; ``None`` if that could not be read.
    hosts
        The plan's hosts.
    now
        Unix seconds.
    """
    time = datetime.fromtimestamp(now, UTC)
    status, changes = before, list[Change]()
    if (status.evidence_from or 0.0) > now + HEROKU_SETTLES_SECONDS:  # the clock was set back
        status = status.evolve(evidence_from=now + HEROKU_SETTLES_SECONDS)
    if news is not None and news.problem is not None and news.problem != status.problem:
        status = status.evolve(problem=news.problem)
    released, settles = "", 0.0
    if news is not None and (current := _in_force(news.releases or ())) is not None:
        if status.heroku_version is not None and current.version != status.heroku_version:
            change, released = _released(status, current, news.releases or ())
            changes.append(change)
            settles = now + HEROKU_SETTLES_SECONDS
            status = status.evolve(heroku_at=time)
        status = status.evolve(heroku_version=current.version, heroku_code=current.code or status.heroku_code)
    if news is not None and news.app is not None:
        status, found, restarted = _app_changed(status, news.app, hosts, time)
        changes += found
        settles = max(settles, now + HEROKU_SETTLES_SECONDS if restarted else 0.0)
    rolled: tuple[str, ...] = ()
    if rollout is not None:
        status, found, rolled = _rolled_out(status, rollout)
        changes += found
        settles = max(settles, now + EKS_SETTLES_SECONDS if rolled else 0.0)
    if settles:
        status = status.evolve(evidence_from=max(settles, status.evidence_from or 0.0))
    return Compared(_level(status, released, rolled, time), tuple(changes))


def level(status: ReleasesStatus) -> ReleasesStatus:
    """Return the status with both legs taken to be alike from now on."""
    return status.evolve(ahead=None, change="", level=_running(status))


def safety_from(status: MigrationPlanStatus) -> float:
    """Return the Unix seconds from which on requests are evidence of safety; infinity while EKS rolls out.

    At 100 % nothing leads up from there, and EKS alone is developed on: a release does not begin the soak anew.
    """
    releases, weight = status.releases, status.weight or 0
    if releases is None or not 0 < weight < 100:
        return 0.0
    return math.inf if releases.rolling else releases.evidence_from or 0.0


def certificates_ending(
    hosts: tuple[str, ...], certificates: tuple[Certificate, ...], by: datetime
) -> dict[str, datetime]:
    """Return the hosts whose last certificate on Heroku ends before a time, with that end."""
    found = {}
    for host in hosts:
        ends = [one.expires for one in certificates if one.covers(host)]
        if ends and max(ends) < by:
            found[host] = max(ends)
    return found


# --------------------------------------------------------------------------------------------------------------- Heroku


def _in_force(releases: tuple[Release, ...]) -> Release | None:
    """Return the release that is in force."""
    return next((one for one in releases if one.current), None)


def _released(before: ReleasesStatus, current: Release, releases: tuple[Release, ...]) -> tuple[Change, str]:
    """Describe the releases since the last that was seen; for the ledger, and shorter for a hold."""
    known = before.heroku_version or 0
    news = sorted(
        (one for one in releases if known < one.version <= current.version and one.succeeded),
        key=lambda one: one.version,
    ) or [current]
    code, kinds = before.heroku_code, set[str]()
    for one in news:
        kinds.add(CODE if one.code and code and one.code != code else CONFIG)
        code = one.code or code
    changed = " and ".join(sorted(kinds))
    named = [_named(one) for one in news[-MOST_NAMED:]]
    unseen = max(current.version - known - sum(known < one.version <= current.version for one in releases), 0)
    told = NewReleases(named=tuple(one.version for one in news[-MOST_NAMED:]), more=unseen + len(news) - len(named))
    more = f"{told.more} more, " if told.more else ""
    return (
        Change("HerokuReleased", f"Heroku released {more}{', '.join(named)}: {changed} changed", releases=told),
        f"{changed} ({'' if not more else '…, '}{', '.join(named)})",
    )


def _named(release: Release) -> str:
    said = shorten(release.description, LONGEST_DESCRIPTION)
    return f"v{release.version}" + (f" ({said})" if said else "")


def _app_changed(
    before: ReleasesStatus, app: HerokuApp, hosts: tuple[str, ...], now: datetime
) -> tuple[ReleasesStatus, list[Change], bool]:
    """Return the status with the app's dynos, maintenance mode and certificates, and whether its dynos start anew."""
    status, changes, restarted = before, list[Change](), False
    if app.maintenance != status.maintenance:
        if status.maintenance is not None:
            says = "on: Heroku answers 503 to everybody" if app.maintenance else "off"
            changes.append(Change("MaintenanceMode", f"maintenance mode of {app.name} is {says}"))
            restarted = True
        status = status.evolve(maintenance=app.maintenance)
    if app.processes is not None:
        processes = app.processes[:MOST_TYPES]
        dynos = {_name(one.kind): one.quantity for one in processes}
        sizes = {_name(one.kind): _name(one.size) for one in processes}
        if status.dynos is not None and status.sizes is not None and (dynos, sizes) != (status.dynos, status.sizes):
            # Autoscaling changes the number many times an hour, and the control is as it was.
            others = sizes != status.sizes or _running_types(dynos) != _running_types(status.dynos)
            texts = [_formation(status.dynos, status.sizes), _formation(dynos, sizes)]
            changes.append(Change("DynosChanged", f"dynos of {app.name}: {' → '.join(texts)}", often=not others))
            restarted = restarted or others
        if (dynos, sizes) != (status.dynos, status.sizes):
            status = status.evolve(dynos=dynos, sizes=sizes)
    if app.certificates is not None:
        ending = certificates_ending(hosts, app.certificates, now + WEEK)
        told = fitted(", ".join(f"{host} {end:%Y-%m-%d}" for host, end in sorted(ending.items())), LONGEST_HOSTS)
        if told and told != status.certificate:
            changes.append(
                Change(
                    "CertificateEnds",
                    f"Heroku's certificates end: {told}; after that day DNS cannot send users back to Heroku, only the"
                    " gateway can",
                )
            )
        if told != status.certificate:
            status = status.evolve(certificate=told)
    return status, changes, restarted


def _running_types(dynos: dict[str, int]) -> set[str]:
    return {kind for kind, number in dynos.items() if number}


def _name(text: str) -> str:
    return shorten(plain(text), LONGEST_NAME)


def _formation(dynos: dict[str, int], sizes: dict[str, str]) -> str:
    return ", ".join(f"{kind} {dynos[kind]} {sizes.get(kind, '')}".strip() for kind in sorted(dynos)) or "none"


# ------------------------------------------------------------------------------------------------------------------ EKS


def _rolled_out(before: ReleasesStatus, rollout: Rollout) -> tuple[ReleasesStatus, list[Change], tuple[str, ...]]:
    """Return the status with the workload's template, and what changed with a rollout that is complete now."""
    if before.eks is None:
        status = before.evolve(eks=rollout.template)
        return status.evolve(level=_running(status)), [], ()
    parts, changes = parts_changed(before.eks, rollout.template), list[Change]()
    status = before
    if parts:
        verb = "has rolled out" if rollout.complete else f"is rolling out ({rollout.progress})"
        changes.append(Change("EksRolledOut", f"EKS {verb}: {' and '.join(parts)} changed"))
        status = status.evolve(eks=rollout.template)
    pending = tuple(dict.fromkeys((*status.rolling, *parts)))
    rolling = () if rollout.complete else pending
    if rolling != status.rolling:
        status = status.evolve(rolling=rolling)
    return status, changes, pending if rollout.complete else ()


def _level(status: ReleasesStatus, released: str, rolled: tuple[str, ...], now: datetime) -> ReleasesStatus:
    """Return the status with the leg that is ahead of the other, if one is."""
    eks = CODE in rolled or CONFIG in rolled
    # A restart may be how Pods get the values of a Secret that was changed like Heroku's. It brings nothing that is new by itself.
    answers = eks or RESTART in rolled
    if released and answers:
        return level(status)
    if released:
        if status.ahead is LegName.EKS:
            return level(status)
        return status.evolve(ahead=LegName.HEROKU, change=released)
    if answers and status.ahead is LegName.HEROKU:
        return level(status)
    if not eks:
        return status
    follows = status.heroku_at is not None and abs(now - status.heroku_at) <= FOLLOWS
    if follows or _running(status) == status.level:
        return level(status)
    return status.evolve(ahead=LegName.EKS, change=" and ".join(part for part in rolled if part in (CODE, CONFIG)))


def _running(status: ReleasesStatus) -> str:
    return f"{status.eks.code} {status.eks.config}" if status.eks is not None else ""

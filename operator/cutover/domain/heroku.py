"""What Heroku's Platform API says about a plan's app, reduced to what decisions and checks need. No secret is part of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cutover.domain.fingerprints import ConfigValues


@dataclass(frozen=True, slots=True)
class Process:
    """A process type of the app's formation.

    Parameters
    ----------
    kind
        Its name in the Procfile, such as ``web``.
    quantity
        How many dynos it has.
    size
        Their size, such as ``Standard-1X``.
    """

    kind: str
    quantity: int
    size: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A host name that Heroku's router takes for the app.

    Parameters
    ----------
    hostname
        The name that users ask for.
    target
        The name that its DNS points to; ``""`` for the app's own ``herokuapp.com`` name.
    certificate
        State of Heroku's managed certificate, such as ``cert issued`` or ``failing``; ``""`` without one.
    """

    hostname: str
    target: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A TLS certificate that Heroku's router has for the app.

    Parameters
    ----------
    domains
        The names that it was issued for, in lower case, also as ``*.example.com``.
    expires
        When it ends.
    """

    domains: tuple[str, ...]
    expires: datetime

    def covers(self, host: str) -> bool:
        """Tell whether the certificate is for a host, as clients of TLS do: a wildcard stands for one label."""
        host = host.lower()
        return host in self.domains or (not host.startswith("*") and f"*.{host.partition('.')[2]}" in self.domains)


@dataclass(frozen=True, slots=True)
class Price:
    """What Heroku bills for an add-on.

    Parameters
    ----------
    cents
        US cents for each unit.
    unit
        The unit, such as ``month``.
    contract
        Whether a contract has the price instead.
    metered
        Whether it is billed by use.
    """

    cents: int
    unit: str = "month"
    contract: bool = False
    metered: bool = False


@dataclass(frozen=True, slots=True)
class Addon:
    """An add-on of the app.

    Parameters
    ----------
    service
        Its service, such as ``heroku-postgresql``.
    plan
        Its plan without the service's name, such as ``standard-0``; ``""`` if it is not known.
    config_vars
        Names of the config vars that it sets.
    price
        What Heroku bills for it; ``None`` if the API does not say.
    """

    service: str
    plan: str = ""
    config_vars: tuple[str, ...] = ()
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the app: a deploy, or a change of config vars or add-ons, after which all dynos start anew.

    Parameters
    ----------
    version
        Its number.
    code
        Digest of the slug's or image's identifier; ``""`` if the API names none.
    description
        What Heroku says of it, such as ``Deploy 1a2b3c4d`` or ``Set FOO config vars``. It has names of config vars, never values.
    current
        Whether it is in force. The newest release is not while its release phase runs, nor after that failed.
    succeeded
        Whether it has been, at some time.
    at
        When it was made; ``None`` if the API does not say.
    """

    version: int
    code: str
    description: str
    current: bool
    succeeded: bool
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HerokuNews:
    """What Heroku's API says about an app during a cutover.

    Parameters
    ----------
    releases
        The newest releases, the newest first; ``None`` before the first answer.
    app
        The app, which is asked for seldom; ``None`` before the first answer.
    problem
        Why there is no newer answer, once it has been missing for some time; ``""`` while there are answers; ``None`` while
        neither is known.
    """

    releases: tuple[Release, ...] | None = None
    app: HerokuApp | None = None
    problem: str | None = None


#: Requests that an account may save up (https://devcenter.heroku.com/articles/platform-api-reference#rate-limits); those that are
#: left for people and pipelines; and how many times as seldom the operator asks at most.
ACCOUNT_REQUESTS, LEFT_FOR_OTHERS, SELDOM = 4500, 500, 8.0


def pace(remaining: int | None) -> float:
    """Return how many times as seldom as with a full account Heroku's API is asked.

    All plans of an account slow down together until they ask no more than comes back, whatever key each has and whoever else
    uses the account.

    Parameters
    ----------
    remaining
        Requests that the account has left, as the last answer said; ``None`` if it did not say.
    """
    if remaining is None:
        return 1.0
    left = max(remaining - LEFT_FOR_OTHERS, 1)
    return min(max((ACCOUNT_REQUESTS - LEFT_FOR_OTHERS) / left, 1.0), SELDOM)


@dataclass(frozen=True, slots=True)
class HerokuApp:
    """An app, as far as the key may see it.

    Parameters
    ----------
    name
        The app's name.
    maintenance
        Whether maintenance mode is on, in which the router answers 503.
    own_hostname
        Host name of the app's own URL; ``""`` where the API gives none.
    processes, domains, certificates
        What it has; ``None`` where the key may not see it.
    addons
        Its add-ons; ``None`` where the key may not see them.
    features
        Names of features that are on, such as ``http-session-affinity``; ``None`` where the key may not see them.
    stack
        The stack that it was built for, such as ``heroku-24``; ``""`` if it is not known.
    region
        Heroku's region, such as ``us`` or ``eu``; ``""`` if it is not known.
    config_vars
        Names of its config vars; ``None`` where the key may not see them, as its scope is ``read``. No value is kept.
    config_values
        Fingerprints of their values; ``None`` where the plan does not ask for them.
    buildpacks
        The buildpacks that built it, such as ``heroku/ruby``, or URLs without credentials; ``None`` where the key may not
        see them.
    drains
        How many log drains it has; ``None`` where the key may not see them.
    """

    name: str
    maintenance: bool
    own_hostname: str
    processes: tuple[Process, ...] | None = None
    domains: tuple[Domain, ...] | None = None
    certificates: tuple[Certificate, ...] | None = None
    addons: tuple[Addon, ...] | None = None
    features: frozenset[str] | None = None
    stack: str = ""
    region: str = ""
    config_vars: frozenset[str] | None = None
    config_values: ConfigValues | None = field(default=None, hash=False)
    buildpacks: tuple[str, ...] | None = None
    drains: int | None = None


@dataclass(frozen=True, slots=True)
class HerokuReading:
    """The newest answer of Heroku's API about a plan's app.

    Parameters
    ----------
    app
        The app; ``None`` before the first answer.
    problem
        Why there is no answer, or no newer one; ``""`` if there is none.
    at
        Unix seconds of the answer.
    """

    app: HerokuApp | None = None
    problem: str = ""
    at: float = 0.0

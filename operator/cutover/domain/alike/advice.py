"""What to do about a difference between two answers."""

from __future__ import annotations

from typing import assert_never

from cutover.api.v1alpha1 import HerokuLeg, HostHeader
from cutover.domain.alike.comparison import Aspect

#: What keeps a page of one build from asking the other leg for its assets.
_ASSETS = (
    "have both legs serve the assets of both builds, from one bucket or CDN, or deploy one build to both: the other leg"
    " answers 404 for them"
)

#: Answers to clients that may not come in.
_DENIED = (401, 403)


def of_takeover(aspect: Aspect, status: int, url: str, heroku: HerokuLeg) -> str:
    """Return what to do where Heroku answers otherwise through the gateway than users get it now.

    Parameters
    ----------
    aspect
        What differs.
    status
        The HTTP status of the answer through the gateway.
    url
        The address that users ask.
    heroku
        The Heroku leg of the plan.
    """
    by_name = heroku.host_header is HostHeader.APP
    match aspect:
        case Aspect.STATUS if status == 429:
            return (
                "the app limits requests by address, and through the gateway all have one: have it trust the cluster as a"
                " proxy"
            )
        case Aspect.STATUS if status >= 500:
            return "look into heroku logs"
        case Aspect.COOKIE | Aspect.HEADER | Aspect.SIZE | Aspect.ASSETS:
            return "check whether a CDN or proxy in front of Heroku adds this today; keep it, or have the app add it"
        case Aspect.STATUS | Aspect.LOCATION | Aspect.CONTENT_TYPE | Aspect.COOKIE_ATTRIBUTES | Aspect.LINK:
            if by_name:
                hint = "; if it allows clients by IP address, allow the cluster's address" if status in _DENIED else ""
                return (
                    f"the app seems to look at its Host, which is {heroku.hostname} through the gateway: set"
                    f" heroku.hostHeader: Public{hint}"
                )
            return (
                "each host has to be a custom domain of the app (heroku domains); see Heroku's own answer with curl -i"
                f" --connect-to ::{heroku.hostname}: {url}"
            )
        case _:
            assert_never(aspect)


def of_legs(aspect: Aspect, status: int, *, loops: bool) -> str:
    """Return what to do where EKS answers otherwise than Heroku.

    Parameters
    ----------
    aspect
        What differs.
    status
        The HTTP status of EKS' answer.
    loops
        Whether it redirects to the address that users ask for.
    """
    match aspect:
        case Aspect.STATUS | Aspect.LOCATION if loops:
            return (
                "the app on EKS does not hear that users come by https, and redirects for ever: end TLS at the gateway, or"
                " have it trust the proxy that does (Istio's numTrustedProxies)"
            )
        case Aspect.STATUS if status == 400:
            return "have the app on EKS accept its public name as Host (its list of allowed hosts)"
        case Aspect.STATUS | Aspect.LOCATION | Aspect.CONTENT_TYPE:
            return "compare the app's settings on EKS with heroku config, such as its own name and its sign-in"
        case Aspect.COOKIE | Aspect.COOKIE_ATTRIBUTES:
            return "set the same cookies, keys and session store on both legs, or users who change legs are signed out"
        case Aspect.HEADER:
            return "send the same security headers from EKS"
        case Aspect.ASSETS:
            return _ASSETS
        case Aspect.SIZE:
            return "look at both pages, one may be incomplete"
        case Aspect.LINK:
            return ""
        case _:
            assert_never(aspect)

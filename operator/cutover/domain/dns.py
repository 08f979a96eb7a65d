"""What DNS says about the plan's hosts, reduced to where a name leads and for how long others keep that."""

from __future__ import annotations

from dataclasses import dataclass

#: Ends of the names that lead to Heroku's router.
HEROKU = (".herokudns.com", ".herokuapp.com", ".herokussl.com", ".herokuspace.com")


@dataclass(frozen=True, slots=True)
class HostRecord:
    """The records of a host.

    Parameters
    ----------
    host
        The host.
    ttl
        Seconds for which others may keep its own record, at least: a resolver that had it in its cache says what is left.
        ``None`` if there is no answer.
    targets
        The names that it leads to by CNAME, in their order.
    problem
        Why there is no answer; ``""`` if there is one.
    """

    host: str
    ttl: int | None = None
    targets: tuple[str, ...] = ()
    problem: str = ""

    @property
    def at_heroku(self) -> str:
        """The name of Heroku's that it leads to; ``""`` if none is seen."""
        return next((name for name in self.targets if name.endswith(HEROKU)), "")

    def joined(self, before: HostRecord | None) -> HostRecord:
        """Return the record with the longest time that was seen while the names were the same."""
        if before is None or before.ttl is None or self.ttl is None or before.targets != self.targets:
            return self
        return HostRecord(self.host, max(self.ttl, before.ttl), self.targets, self.problem)

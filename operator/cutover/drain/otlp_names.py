"""The names by which OTLP has the metrics of Heroku's router: a setting, as Heroku has established none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cutover.drain.otlp_points import Names
from cutover.settings.files import FileModel

_Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
#: Milliseconds in a unit.
_UNITS = {"s": 1000.0, "ms": 1.0}


class OtlpNames(FileModel):
    """The names in the setting."""

    requests: _Name = Field(description="Metric that counts requests: a sum, or a histogram whose count is used.")
    service: _Name | None = Field(default=None, description="Histogram of service times.")
    connect: _Name | None = Field(default=None, description="Histogram of times until a dyno took the request.")
    bytes: _Name | None = Field(default=None, description="Metric with the bytes of answers: a sum, or a histogram.")
    code: _Name = Field(description="Attribute with the HTTP status.")
    error: _Name | None = Field(default=None, description="Attribute with Heroku's code, such as H12.")
    resource: Annotated[dict[_Name, str], Field(max_length=16)] = Field(
        default_factory=dict,
        description="Attributes that the router's resource has, so that an app's own metrics of these names are left out.",
    )
    unit: Literal["s", "ms"] | None = Field(
        default=None, description="Unit of times whose metric does not say s or ms itself."
    )

    def names(self) -> Names:
        """Return them as the points are read by."""
        return Names(
            requests=self.requests,
            service=self.service or "",
            connect=self.connect or "",
            size=self.bytes or "",
            code=self.code,
            error=self.error or "",
            resource=self.resource,
            milliseconds=_UNITS[self.unit] if self.unit else None,
        )

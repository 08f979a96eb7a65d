"""The EKS side of the split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cutover.api.model import Model, ObjectName
from cutover.api.rules import matching


class ServiceRef(Model):
    """A Service in the plan's namespace, and one of its ports."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matching(
            r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "write the name of a Service of the plan's namespace, without a dot"
        ),
    ] = Field(description="Name of the Service.")
    port: int = Field(ge=1, le=65535, description="Port of the Service, by number.")


class WorkloadRef(Model):
    """The workload behind the Service, in the plan's namespace."""

    api_version: Literal["apps/v1"] = Field(default="apps/v1", description="API group and version of the workload.")
    kind: Literal["Deployment"] = Field(default="Deployment", description="Kind of the workload.")
    name: ObjectName = Field(description="Name of the workload.")


class EksLeg(Model):
    """The EKS side of the split."""

    service: ServiceRef = Field(description="Service that receives the requests, with its HTTP port.")
    workload_ref: WorkloadRef = Field(description="Workload behind the Service, in the plan's namespace.")

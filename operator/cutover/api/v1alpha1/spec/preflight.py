"""Preflight checks that are skipped, and differences between the legs that are meant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cutover.api.model import Model, ShortName
from cutover.api.rules import Rule, matching, once


class SkippedCheck(Model):
    """A preflight check that the team skips on its responsibility."""

    check: ShortName = Field(description="Name of the check, such as cpu-throttling.")
    reason: str = Field(min_length=1, max_length=256, description="Why the check may be skipped, for people.")


#: A config var, or several by how they begin.
ConfigVars = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(r"^[A-Za-z_][A-Za-z0-9_]*[*]?$", "write the name of a variable, such as OLD_TOKEN, or OLD_* for several"),
]


class ConfigSpec(Model):
    """How the config vars of Heroku are compared with the variables on EKS: by their names, and if asked for by their values."""

    RULES = (
        Rule(
            "differOnPurpose: values are not compared without compareValues: true; write that too, or leave it out",
            "!has(self.differOnPurpose) || size(self.differOnPurpose) == 0 || self.compareValues",
            lambda self: not self.differ_on_purpose or self.compare_values,
            at=".differOnPurpose",
        ),
    )

    read_keys: bool = Field(
        default=False,
        description="Read the names of the keys of the ConfigMaps and Secrets that the workload takes variables from. The"
        " operator needs the right to get them, which it does not have by itself.",
    )
    compare_values: bool = Field(
        default=False,
        description="Compare the values of variables that both have, in memory and by keyed digests: only names of those that"
        " differ are told. The operator needs the right to get the ConfigMaps and Secrets that have them, and the API key the"
        " scope read-protected.",
    )
    only_on_heroku: Annotated[tuple[ConfigVars, ...], once("onlyOnHeroku: write each name once")] = Field(
        default=(),
        max_length=200,
        description="Config vars that EKS does not need; a * at the end stands for any rest of the name.",
    )
    differ_on_purpose: Annotated[tuple[ConfigVars, ...], once("differOnPurpose: write each name once")] = Field(
        default=(),
        max_length=200,
        description="Config vars whose values differ on EKS on purpose; a * at the end stands for any rest of the name.",
    )


class PreflightSpec(Model):
    """The preflight checks that are skipped, and why, and differences that are meant."""

    skip: Annotated[tuple[SkippedCheck, ...], once("skip: write each check once", key="check")] = Field(
        default=(), max_length=64, description="Checks that are skipped."
    )
    config: ConfigSpec = ConfigSpec()

    def reason_to_skip(self, check: str) -> str | None:
        """Return why a check is skipped; ``None`` if it is not."""
        return next((skip.reason for skip in self.skip if skip.check == check), None)

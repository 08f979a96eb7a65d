"""Reading settings from environment variables into a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from cutover.api.problems import mistakes
from cutover.settings.files import SettingsError


class Variables(BaseSettings):
    """Base of the models. A subclass sets ``env_prefix``, and ``enable_decoding=False``: its fields parse JSON themselves.

    Where the library decodes JSON, its error does not name the variable.
    """

    @classmethod
    def settings_customise_sources(  # the library names its arguments
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments; :func:`read_variables` reads the given environment."""
        return (init_settings,)


_Model = TypeVar("_Model", bound=Variables)


def read_variables(model: type[_Model], environ: Mapping[str, str], *, others: frozenset[str] = frozenset()) -> _Model:
    """Read the variables of a model; a variable's name is the model's prefix and the field in capitals.

    Parameters
    ----------
    model
        The model.
    environ
        The environment. Empty variables count as not set, as the chart writes them.
    others
        Variables with the prefix that are no settings.

    Raises
    ------
    SettingsError
        Where variables are unknown or wrong. The text names all of them, and quotes no value.
    """
    prefix = model.model_config["env_prefix"]
    given = {name.upper(): value for name, value in environ.items() if value != ""}
    known = {f"{prefix}{field.upper()}" for field in model.model_fields}
    unknown = sorted(name for name in given.keys() - known - others if name.startswith(prefix))
    source = EnvSettingsSource(model)
    source.env_vars = {name.lower(): value for name, value in given.items()}  # not the process' own environment
    try:
        settings = model(**source())
    except ValidationError as error:
        # Of a nested location only the variable's name is used.
        wrong = [f"{prefix}{str(location[0]).upper()}: {message}" for location, message in mistakes(error)]
    else:
        wrong = []
    if unknown:
        wrong += [f"{name}: Extra inputs are not permitted" for name in unknown]
        wrong.append(f"there are {', '.join(sorted(known))}")
    if wrong:
        raise SettingsError("; ".join(dict.fromkeys(wrong)))
    return settings

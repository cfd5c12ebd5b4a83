"""Base class of every configuration section."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen section of the configuration: types and ranges, no values, no unknown keys.

    The values live in the YAML groups under `configs/`; a subclass stands beside the code
    that consumes it and declares no default.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

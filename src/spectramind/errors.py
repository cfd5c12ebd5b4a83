"""Errors that a user can mend: each says what is wrong, where, and what to do."""


class SpectraMindError(Exception):
    """Base of all errors with which a command ends in one sentence instead of a traceback."""

    exit_code = 1


class ConfigError(SpectraMindError):
    """A key, value or combination of values in the configuration is not usable."""

    exit_code = 2


class DataError(SpectraMindError):
    """An input file is missing, damaged or contradicts another one."""


class ArtefactError(SpectraMindError):
    """An artefact of an earlier stage is missing, stale or cannot be written."""


class WriteError(ArtefactError):
    """Nothing more can be written (full disk, no permission): the whole run ends, not a planet."""

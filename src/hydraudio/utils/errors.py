"""Errors that a user can mend."""


class ConfigError(ValueError):
    """A mistake in the configuration.

    The message is complete: it names the file, the full key, the nearest valid key and the remedy. The commands
    print it without a traceback and exit with status 1.
    """


class DataAttributeUnbound(ConfigError):
    """A ``${data_attribute:NAME}`` was read before there is a datamodule."""

"""Errors that a user can mend."""


class ConfigError(ValueError):
    """A mistake in the configuration.

    The message is complete: it names the file, the full key, the nearest valid key and the remedy. The commands
    print it without a traceback and exit with status 1.
    """


class DataAttributeUnbound(ConfigError):
    """A ``${data_attribute:NAME}`` was read before there is a datamodule."""


class DataMismatchError(ConfigError):
    """The corpus belongs to another task, or has another sample rate, ... than the network was built for.

    Args:
        name: of the attribute.
        given: its value in the data; None where the data has none.
        built: its value in the model.
        remedy: what else can be done.

    Attributes:
        reason: a few words for a table.
    """

    def __init__(self, name: str, given: object, built: object, remedy: str = "") -> None:
        super().__init__(
            f"the data has {name}={given}, but the model was built for {name}={built}; choose "
            "data (data=OPTION, or data.KEY=VALUE for its settings) or a checkpoint to match"
            + (remedy and f"; {remedy}")
        )
        self.reason = f"{name}: data {given}, model {built}"

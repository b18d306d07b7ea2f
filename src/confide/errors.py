"""Every error Confide raises on purpose, divided by what the reader can do about it.

    ConfideError
    ├── UsageError                 exit code 2: change what you gave
    │   ├── ConfigError            a key of the configuration
    │   ├── DataError              a file, a line or a column of the data
    │   ├── ModelError             the base model, the adapter or the targets
    │   ├── RunDirectoryError      the run directory: it exists, is missing, or belongs to another run
    │   ├── RosterError            the roster: who takes part, with which public keys
    │   ├── KeyFileError           a file with secret keys
    │   ├── DeployFolderError      the folder of a server or a member of a deployment
    │   └── MissingExtraError      an optional dependency is not installed
    └── RunError                   exit code 1: the run could not go on; what is saved stays saved
        ├── MessageError           bytes that are no message of ours
        ├── LayoutMismatchError    two parties disagree on the shape of the update
        ├── NonFiniteLossError     training gave NaN or infinity
        ├── NonFiniteUpdateError   an update holds NaN or infinity
        ├── SealError              sealed values could not be made or opened
        ├── SaturationError        too many values lie outside the range that sealing carries
        ├── SecretKeyError         a secret key was asked for what it must not do
        ├── AgreementError         the clients' global adapters differ
        ├── PolicyError            a run asks for more than a member's own policy allows
        ├── RoundFailedError       fewer clients than `min_clients` delivered
        ├── DeployError            a process of a deployment did not start, died, or does not answer
        └── StorageError           a file could not be written
    RunInterrupted                 Ctrl-C: stopped cleanly at a step, resumable (exit code 130)

A message says what was expected, what came, where, and what to do next. It never holds a key, an example's text or a
value of an update.
"""


class ConfideError(Exception):
    """The root of every error that Confide raises on purpose."""

    exit_code = 1


class UsageError(ConfideError):
    """Something the user gave has to change before the command can work."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown, has the wrong type or range, or contradicts another."""


class DataError(UsageError):
    """A data file is missing, malformed, or lacks a column; or a client ends up with no data."""


class ModelError(UsageError):
    """The base model, the adapter, or the LoRA targets cannot be used as asked."""


class RunDirectoryError(UsageError):
    """The run directory exists already, is missing, is damaged, or belongs to another configuration."""


class RosterError(UsageError):
    """The roster is missing, malformed, or does not fit what it is used for."""


class KeyFileError(UsageError):
    """A file with secret keys is missing, unreadable, too open, or the passphrase is wrong."""


class DeployFolderError(UsageError):
    """A deployment folder is missing, lacks a file, is open to others, or holds something else."""


class MissingExtraError(UsageError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}. Install it with: pip install 'confide[{extra}]'")


class RunError(ConfideError):
    """A run, or a part of it, could not go on."""


class MessageError(RunError):
    """Bytes from a peer are not a well-formed message of the expected kind."""


class LayoutMismatchError(RunError):
    """Two parties disagree on names, order or shapes of an update's slots."""


class NonFiniteLossError(RunError):
    """Local training met a loss or a gradient that is NaN or infinite."""


class NonFiniteUpdateError(RunError):
    """An update holds NaN or infinity."""


class SealError(RunError):
    """Sealed values could not be made or opened: parts are missing or do not fit together."""


class SaturationError(RunError):
    """More values than allowed lie outside the range that sealing carries; going on would lose a part of the update."""


class PrivacyBudgetError(RunError):
    """Going on would cost more of the privacy budget than was planned; the last model inside it is saved."""


class SecretKeyError(RunError):
    """A secret key was asked to do what it must not: a second use, a second member list, a copy."""


class AgreementError(RunError):
    """Clients that opened the same sum computed different global adapters."""


class PolicyError(RunError):
    """What a server offers or asks for lies outside what a member's own policy file allows."""


class RoundFailedError(RunError):
    """Fewer clients than `min_clients` delivered a valid update."""


class DeployError(RunError):
    """A process of a deployment did not start, died, or does not answer."""


class StorageError(RunError):
    """A file could not be written, for example because the disk is full; older files are intact."""


class RunInterrupted(ConfideError):  # noqa: N818 (a clean stop, not a fault)
    """The user asked to stop; the last complete round is saved and `confide resume` goes on from there."""

    exit_code = 130

"""The errors that covey raises on purpose, as one tree.

Every message names subject, expectation, actual value and what to do. There is a class for each thing that a caller
handles differently; `exit_code` is what a covey process ends with, `status` the name of the gRPC status it travels as.

CoveyError
├── ConfigError            configuration or command line                      exit 2
├── EnvironmentLoadError   the environment cannot be imported, built or used  exit 3
├── SpaceError             unsupported space, or other spaces than the run's  exit 4
├── UnreachableError       the learner does not answer                        exit 5
├── RefusedError           the learner refuses this actor or request          exit 6
│   ├── UnauthenticatedError   it does not know the caller
│   └── ForbiddenError         it knows the caller, whose role may not do this
├── StorageError           a run directory cannot be read or written          exit 7
│   └── DiskFullError          there is no room on its disk now
├── AddressInUseError      the port is taken                                  exit 8
├── StalledError           an environment does not come back from a step      exit 9
├── DivergedError          no member has finite weights any more              exit 10
└── FragmentError          a fragment's content is not acceptable (the actor's stream goes on)
"""

from typing import ClassVar

MAX_CHARACTERS = 1500
"""Characters of an error: enough to explain it, but not for all that a peer sent; a gRPC status holds 8 KiB."""


def one_line(text: str, most: int = MAX_CHARACTERS) -> str:
    """A text as one line of at most `most` printable characters, as texts of peers end up in logs and on terminals."""
    if len(text) > most:
        text = text[: most - 4] + " ..."
    return text if text.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in text).split())


class CoveyError(Exception):
    """Base of all errors that covey raises on purpose; its text is one sentence for a person."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[str] = "INTERNAL"

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class ConfigError(CoveyError):
    """A configuration value or command-line argument is not acceptable."""

    exit_code = 2
    status = "INVALID_ARGUMENT"


class DivergedError(CoveyError):
    """All members of a population have diverged: none has finite weights any more."""

    exit_code = 10


class EnvironmentLoadError(CoveyError):
    """An environment cannot be imported, built or used."""

    exit_code = 3
    status = "FAILED_PRECONDITION"


class SpaceError(CoveyError):
    """A space is not supported, or differs from the run's."""

    exit_code = 4
    status = "INVALID_ARGUMENT"


class UnreachableError(CoveyError):
    """The learner does not answer."""

    exit_code = 5
    status = "UNAVAILABLE"


class RefusedError(CoveyError):
    """The learner refuses this actor or this request."""

    exit_code = 6
    status = "FAILED_PRECONDITION"


class UnauthenticatedError(RefusedError):
    """The learner does not know who calls: there is no token, or not one of its own."""

    status = "UNAUTHENTICATED"


class ForbiddenError(RefusedError):
    """The learner knows who calls, and that they may not do this."""

    status = "PERMISSION_DENIED"


class StorageError(CoveyError):
    """A run directory cannot be read or written."""

    exit_code = 7
    status = "RESOURCE_EXHAUSTED"


class DiskFullError(StorageError):
    """A disk or quota is full; there may be space again later."""


class AddressInUseError(CoveyError):
    """Another process listens on the learner's port."""

    exit_code = 8
    status = "UNAVAILABLE"


class StalledError(CoveyError):
    """An environment does not come back from a step or a reset."""

    exit_code = 9


class FragmentError(CoveyError):
    """A fragment is refused; `reason` is a word that programs may rely on, the text explains it to people."""

    status = "INVALID_ARGUMENT"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

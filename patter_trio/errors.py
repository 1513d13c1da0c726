"""Every error that the package raises on purpose, arranged by what the caller may do about it.

::

    PatterError
    ├── ConfigurationError (also ValueError)   change the program or its environment
    │   └── MissingExtraError                  run the command in the message
    ├── PatterConnectionError                  the network or a peer; trying again may help
    │   └── CallEnded                          the call is over; nothing more can be said in it
    ├── ProviderError                          a vendor or model failed; the call goes on by policy
    │   ├── AuthenticationError                the credentials are wrong
    │   ├── RateLimitError                     wait, or use another provider
    │   └── ProviderTimeout                    no answer in time
    └── WireError                              a peer sent what its protocol does not allow
"""

from collections.abc import Iterator


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield what went wrong, in order: the exceptions in a group of groups, or the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class PatterError(Exception):
    """Base of every error of this package."""


class ConfigurationError(PatterError, ValueError):
    """The program or its environment has to be changed; the message says how."""


class MissingExtraError(ConfigurationError):
    """An optional part is not installed; the message holds the command that installs it."""


class PatterConnectionError(PatterError):
    """A connection could not be made or was lost."""


class CallEnded(PatterConnectionError):
    """The call is over, so that what was asked of it cannot be done."""


class ProviderError(PatterError):
    """A provider (recogniser, language model, synthesiser) failed."""


class AuthenticationError(ProviderError):
    """The provider refused the credentials."""


class RateLimitError(ProviderError):
    """The provider asks for fewer requests."""


class ProviderTimeout(ProviderError):
    """The provider did not answer within its deadline."""


class WireError(PatterError):
    """A peer sent something that its protocol does not allow."""

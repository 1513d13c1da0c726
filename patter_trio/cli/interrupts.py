"""Ctrl-C, as far as a process may get it."""

import signal


def is_interruptible() -> bool:
    """Return True if Ctrl-C may stop this process.

    A shell without job control ignores SIGINT for the commands that it starts in the background, so that Ctrl-C reaches
    only the one in the foreground. Python and trio respect that, and so does the launcher; SIGTERM stops a service
    either way.
    """
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

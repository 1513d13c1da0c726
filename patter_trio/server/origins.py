"""The rule by which a request counts as one of a page of this server: ``Origin`` names its ``Host``."""

from collections.abc import Sequence


def is_own_origin(origins: Sequence[str], hosts: Sequence[str]) -> bool:
    """Return True if the one ``Origin`` of a request names the host and port of its one ``Host``.

    A browser sets both headers by itself; a script in a page can change neither. So they distinguish our pages from
    those of any other site, also of one on another port of the same machine.

    Args:
        origins: the values of all headers ``Origin``.
        hosts: the values of all headers ``Host``.
    """
    # Two values of a header are a proxy's mistake or an attempt; whichever is right, the request is not a browser's.
    if len(origins) != 1 or len(hosts) != 1 or not hosts[0]:
        return False
    scheme, separator, authority = origins[0].strip().lower().partition("://")
    # Either scheme: a proxy in front may have ended TLS. "null", from a sandboxed frame or a file, has no separator.
    return bool(separator) and scheme in ("http", "https") and authority == hosts[0].strip().lower()

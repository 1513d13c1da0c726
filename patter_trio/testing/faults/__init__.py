"""The catalogue of faults, how each is injected, and the proxy that misbehaves."""

from patter_trio.testing.faults.catalogue import FAULTS
from patter_trio.testing.faults.fault import Fault, Hears

__all__ = [
    "FAULTS",
    "Fault",
    "Hears",
]

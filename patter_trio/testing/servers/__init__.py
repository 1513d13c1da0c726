"""Fake servers of vendors, on loopback sockets; each is a :class:`~patter_trio.testing.vendor.FakeVendor`."""

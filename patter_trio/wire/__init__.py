"""Wire protocols without I/O, one module each: messages in, events out. Vendors' own terms stay in here."""

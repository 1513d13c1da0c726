"""Wire protocols without I/O, one file each: messages in, events out. Vendor words die here."""

"""Stand-ins for vendors, on loopback: they speak the vendor's protocol, and do what a script tells them."""

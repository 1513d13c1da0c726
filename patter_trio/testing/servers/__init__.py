"""Servers that speak a vendor's protocol on loopback, one file each, and do as a test tells them."""

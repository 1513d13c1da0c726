"""What is measured of calls, and told to those who watch them."""

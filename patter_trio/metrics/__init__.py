"""What is measured of a call: latencies, usage and cost, without a clock."""

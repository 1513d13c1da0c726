"""The metrics of a call: latencies, usage and cost, as pure calculation without a clock."""

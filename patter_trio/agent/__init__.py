"""The parts of an agent: options, tools, hooks, guardrails. All are frozen, without tasks or sockets."""

"""The parts of an agent that applications configure: tools, hooks, guardrails. All are frozen, without tasks or sockets."""

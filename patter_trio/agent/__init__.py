"""What you configure: agents, tools, hooks and guardrails; frozen values without a task or a socket."""

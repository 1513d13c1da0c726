"""The agent's voice on its way out."""

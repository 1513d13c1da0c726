"""The responder of a pipeline: an LLM, or the application's ``on_message``."""

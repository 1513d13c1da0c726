"""Who answers in a call: a language model, or the application's ``on_message``."""

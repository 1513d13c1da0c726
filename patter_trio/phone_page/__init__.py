"""The browser phone: a page that calls the served agent over the microphone and speaker of a browser."""

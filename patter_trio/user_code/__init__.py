"""The border to the application's own code: how its functions and URLs are called."""

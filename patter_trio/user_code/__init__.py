"""The border to the application's own code: how the package calls its functions and URLs."""

"""A call as a picture's data: who spoke when, what was heard, and where the time went. Pure: time is an argument."""

"""The dashboard: pages in the browser with the live calls, the calls that are over, and each call by itself."""

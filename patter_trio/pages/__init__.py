"""Parts that our windows (pages in the browser) share: static files, and the rules under which they are sent."""

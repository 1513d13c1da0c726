"""Tests of the browser phone."""

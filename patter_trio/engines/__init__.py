"""Engines: models that hear and speak by themselves, one per file."""

from patter_trio.engines import openai_realtime

__all__ = ["openai_realtime"]

"""Calls in text: the call as it is, with lines of text in the place of STT and TTS."""

from patter_trio.text_chat._call import TextCall

__all__ = ["TextCall"]

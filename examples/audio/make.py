"""Make the callers of this folder anew: python examples/audio/make.py"""

from pathlib import Path

from patter_trio.tts.piper import write_wav

CALLERS = {
    "hours": "Hi, what time do you open on Saturday?",
    "book": "I would like to book a table for four at seven thirty tomorrow.",
    "name": "The name is Henry Miller.",
    "phone": "My number is 555-123-4567.",
    "interrupt": "Sorry, one more question.",
    "bye": "That is all, thank you. Goodbye.",
}

for name, words in CALLERS.items():
    write_wav(words, Path(__file__).with_name(f"{name}.wav"))

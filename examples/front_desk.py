"""The front desk of a small restaurant. Call it with `patter-trio dev FILE`, or with `patter-trio simulate FILE`."""

import re

from patter_trio import Patter

phone = Patter()
agent = phone.agent(
    system_prompt="You answer the phone of Trattoria Miller.",
    first_message="Trattoria Miller, good evening! How can I help you?",
)

callers = [f"audio/{name}.wav" for name in ("hours", "book", "name", "phone", "bye")]  # recordings for the simulator

HOURS = (
    "On weekdays we open at noon and close at ten. On Saturday and Sunday we open at 5:30 in the afternoon and "
    "close at eleven."
)
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def party_size(text):
    """Return the number after "for", spelled out or in digits."""
    found = re.search(r"\bfor (\d+|" + "|".join(NUMBERS) + r")\b", text)
    return found.group(1) if found else "two"


async def on_call_start(event):
    print(f"A call from {event['telephony_provider']}.")


async def on_message(event):
    text = event["text"].lower()
    asked = [entry["text"] for entry in event["history"] if entry["role"] == "assistant"]
    if re.search(r"\b(bye|that is all|that's all|thank)", text):
        yield "Thank you for calling. See you soon!"
    elif re.search(r"\b(book|table|reserve|reservation)\b", text):
        yield f"A table for {party_size(text)}, gladly. "
        yield "May I have your name, please?"
    elif asked and "your name" in asked[-1]:
        name = re.sub(r".*\b(?:name is|i am|i'm|it's)\s+", "", event["text"].strip(" .!"), flags=re.IGNORECASE)
        yield f"Thank you, {name}. And a phone number, in case you are late?"
    elif asked and "phone number" in asked[-1]:
        digits = " ".join(re.findall(r"\d", text)) or "nothing"
        yield f"I have noted {digits}. Your table is booked. Can I do anything else for you?"
    elif re.search(r"\b(open|close|hours|when|time)\b", text):
        yield HOURS
    elif "question" in text:
        yield "Of course, what would you like to know?"
    else:
        yield "I can tell you our opening hours, or book a table for you. Which would you like?"


async def on_call_end(event):
    print(f"{event['outcome']} after {len(event['transcript'])} utterances.")

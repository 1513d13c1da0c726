"""An agent on OpenAI's Realtime API that logs its calls.

It needs TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, OPENAI_API_KEY, PHONE_NUMBER and WEBHOOK_URL, in the environment or in
`.env`.
"""

import os

import trio
from dotenv import load_dotenv

from patter_trio import OpenAIRealtime, Patter, Twilio

load_dotenv()

phone = Patter(
    carrier=Twilio(),  # TWILIO_* from the environment
    phone_number=os.environ["PHONE_NUMBER"],
    webhook_url=os.environ["WEBHOOK_URL"],
)

agent = phone.agent(
    engine=OpenAIRealtime(),  # OPENAI_API_KEY from the environment
    system_prompt="You are a helpful assistant.",
    first_message="Hi there! What can I do for you?",
)


async def on_call_start(event):
    print(f"[START] Call {event['call_id']} from {event['caller']} ({event['direction']})")


async def on_call_end(event):
    print(f"[END] Call {event['call_id']}")
    print(f"  Transcript ({len(event['transcript'])} messages):")
    for entry in event["transcript"]:
        print(f"    [{entry['role']}]: {entry['text']}")


async def on_transcript(event):
    print(f"  [{event['role']}]: {event['text']}")


async def main():
    await phone.serve(
        agent,
        port=8000,
        on_call_start=on_call_start,
        on_call_end=on_call_end,
        on_transcript=on_transcript,
    )


trio.run(main)

"""All seven speech edges of a call, printed as they happen, with latencies and interruptions.

It needs TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and OPENAI_API_KEY in the environment.
"""

from functools import partial

import trio

from patter_trio import OpenAIRealtime, Patter, Twilio

phone = Patter(carrier=Twilio(), phone_number="+15555550100")
agent = phone.agent(
    engine=OpenAIRealtime(),
    system_prompt="You are a helpful assistant.",
)


# --- the raw edges of the caller's voice ------------------------------------------------------------------------------
async def on_user_speech_started(ev):
    print(f"[vad+] t={ev['timestamp_ms']} state={phone.conversation_state}")


async def on_user_speech_ended(ev):
    print(f"[vad-] dur={ev['speech_duration_ms']}ms")


# --- the caller has finished: measure latencies from here -------------------------------------------------------------
async def on_user_speech_eos(ev):
    print(f"[eos ] trigger={ev['trigger']} silence={ev.get('trailing_silence_ms')}ms")
    on_user_speech_eos.last_eos_ms = ev["timestamp_ms"]


on_user_speech_eos.last_eos_ms = 0


# --- the first token and the first audio of a turn --------------------------------------------------------------------
async def on_llm_token(ev):
    ttft = ev["timestamp_ms"] - on_user_speech_eos.last_eos_ms
    print(f"[ttft] {ttft}ms model={ev['model']} provider={ev['llm_provider']}")


async def on_audio_out(ev):
    print(f"[tts ] turn={ev['turn_idx']} provider={ev['tts_provider']}")


# --- playback of the agent's reply, and interruptions -----------------------------------------------------------------
async def on_agent_speech_started(ev):
    print(f"[wire] turn={ev['turn_idx']} engine={ev.get('engine')}")


async def on_agent_speech_ended(ev):
    if ev["interrupted"]:
        print(f"[barge] turn={ev['turn_idx']} cut at {ev['speech_duration_ms']}ms")
    else:
        print(f"[done] turn={ev['turn_idx']} spoke {ev['speech_duration_ms']}ms")


phone.on_user_speech_started = on_user_speech_started
phone.on_user_speech_ended = on_user_speech_ended
phone.on_user_speech_eos = on_user_speech_eos
phone.on_llm_token = on_llm_token
phone.on_audio_out = on_audio_out
phone.on_agent_speech_started = on_agent_speech_started
phone.on_agent_speech_ended = on_agent_speech_ended

trio.run(partial(phone.serve, agent, port=8000))

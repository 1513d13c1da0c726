"""The desk of a restaurant: an LLM with tools, keys, a transfer, and a database.

It runs without an account, against a model that follows a script, and answers by keyboard or to recorded callers:

    patter-trio test examples/restaurant.py
    patter-trio test examples/restaurant.py --say "A table for four tomorrow at eight, please." --press 4711
    patter-trio simulate examples/restaurant.py

With a real model of any server that speaks OpenAI's API (OpenAI, vLLM, Ollama, llama.cpp, OpenRouter ...):

    LLM_URL=http://localhost:11434/v1 LLM_MODEL=qwen3 patter-trio test examples/restaurant.py

LLM_URL      the server's URL, including /v1; not set: the scripted model
LLM_MODEL    the model's name
LLM_KEY      its key, if it wants one
DATABASE     the SQLite file; not set: restaurant.db in the working directory
DESK         the number to which callers are transferred
"""

import os
import sqlite3
from contextlib import closing

from patter_trio import Keypad, OpenAILLM, Patter, end_call, tool, transfer_call
from patter_trio.testing import ScriptedLLM, tool_call

DATABASE = os.environ.get("DATABASE", "restaurant.db")
DESK = os.environ.get("DESK", "+15550100003")
TABLES = {2: 3, 4: 2, 6: 1}  # how many tables there are, by seats

SCHEMA = """
create table if not exists bookings (
    code integer primary key autoincrement,
    day text not null, hour text not null, seats integer not null, name text not null, caller text not null
);
insert into sqlite_sequence (name, seq)
    select 'bookings', 4710 where not exists (select 1 from sqlite_sequence where name = 'bookings');
"""


def database():
    """Open the database; a connection for each call of a tool, because tools run in threads."""
    connection = sqlite3.connect(DATABASE, timeout=5)
    connection.row_factory = sqlite3.Row
    return connection


with closing(database()) as connection, connection:
    connection.executescript(SCHEMA)


# Plain functions: each runs in a worker thread, so a slow disk never holds up the audio.
@tool
def free_tables(day: str, hour: str, seats: int) -> str:
    """Find out whether a table is free.

    Args:
        day: such as "tomorrow" or "2026-05-01".
        hour: such as "20:00".
        seats: for how many people.
    """
    size = next((size for size in TABLES if size >= seats), None)
    if size is None:
        return f"No table has {seats} seats; the largest has {max(TABLES)}."
    with closing(database()) as connection:
        query = "select count(*) from bookings where day = ? and hour = ? and seats between ? and ?"
        (taken,) = connection.execute(query, (day, hour, size - 1, size)).fetchone()
    return f"{TABLES[size] - taken} tables for {size} are free."


@tool
def book(day: str, hour: str, seats: int, name: str, call_context) -> str:
    """Book a table; say the code to the caller.

    Args:
        day: as for free_tables.
        hour: as for free_tables.
        seats: for how many people.
        name: the caller's name.
    """
    with closing(database()) as connection, connection:
        row = (day, hour, seats, name, call_context.caller)
        insert = "insert into bookings (day, hour, seats, name, caller) values (?, ?, ?, ?, ?)"
        code = connection.execute(insert, row).lastrowid
    return f"Booked. The code is {code}."


@tool
def find_booking(code: int) -> str:
    """Find a booking by its code, which the caller says or enters with the keys."""
    with closing(database()) as connection:
        row = connection.execute("select * from bookings where code = ?", (code,)).fetchone()
    if row is None:
        return "No booking has this code."
    return f"{row['name']}, {row['seats']} seats, {row['day']} at {row['hour']}."


def model():
    """Return the model: that of LLM_URL, or a scripted one."""
    if url := os.environ.get("LLM_URL"):
        return OpenAILLM(os.environ.get("LLM_KEY", ""), base_url=url, model=os.environ.get("LLM_MODEL", "default"))
    return ScriptedLLM(
        [
            ["Let me see. ", tool_call("free_tables", day="tomorrow", hour="20:00", seats=4)],
            "Tomorrow at eight we have a table for four. What is your name, please?",
            [tool_call("book", day="tomorrow", hour="20:00", seats=4, name="Ann Miller")],
            "It is booked, Ann. Your code is 4711. You can enter it with the keys to hear your booking.",
            [tool_call("find_booking", code=4711)],
            "I have a table for four, tomorrow at eight, in the name of Ann Miller. Can I do anything else?",
            ["I will connect you with a colleague.", tool_call("transfer_call", destination="desk")],
        ],
        first_token=0.2,
        duration=0.6,
    )


phone = Patter()
agent = phone.agent(
    system_prompt="You answer the phone of Trattoria Miller, and book tables. Callers enter their code with the keys. "
    "Look up what you do not know, and never invent a table or a code.",
    first_message="Trattoria Miller, good evening! How can I help you?",
    llm=model(),
    tools=[free_tables, book, find_booking, transfer_call({"desk": DESK}), end_call],
    dtmf=Keypad(max_digits=4),
)
callers = [f"audio/{name}.wav" for name in ("book", "name")]  # recordings for the simulator

"""The call log: a database of a phone's calls, written while they go on and read by windows, programs and the launcher.

::

    events of a call ─ recorder ─► queue ─ one task ─► thread: redaction, rows, one transaction ─► SQLite or PostgreSQL
                       (the call)  (bounded)                                                          │
                                            CallArchive: queries in threads  ◄────────────────────────┘

A call puts records into the queue and never waits. The modules beside the queue run in threads, need SQLAlchemy (the
extra ``log``) and are imported when a log is opened; ``options``, ``words``, ``redaction`` and ``writer`` need nothing.
"""

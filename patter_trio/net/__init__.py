"""The shells around protocols, written once: streams, deadlines, threads. Foreign exceptions stop here."""

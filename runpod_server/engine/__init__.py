"""Engines: a frozen speech request in, PCM pieces out. Knows nothing of sockets or HTTP."""

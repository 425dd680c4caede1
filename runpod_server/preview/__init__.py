"""The embedded preview voice: text to samples on the CPU. Knows nothing of requests, slots or sockets."""

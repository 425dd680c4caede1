"""The model: weights, one frame of CSM, Mimi as a stream. Knows nothing of requests, queues or sockets."""

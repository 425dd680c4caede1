"""The model: weights, one frame of CSM, Mimi as a stream. Knows nothing of requests, queues or sockets."""

from runpod_server.model.quiet import quiet_torchao

quiet_torchao()  # before any module here imports transformers

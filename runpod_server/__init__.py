"""The speech server: one loaded model, many callers, PCM over a WebSocket."""

__version__ = "0.1.0"

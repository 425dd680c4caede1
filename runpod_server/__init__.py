"""The speech server: one loaded model, many callers, PCM over a WebSocket."""

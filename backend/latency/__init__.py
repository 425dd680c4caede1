"""`voice-agent latency`: how long every speech route takes, measured one request at a time."""

DEFAULT_TEXT = "Thank you for calling. How can I help you today?"

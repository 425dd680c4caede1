"""The call backend: Telnyx call control, media streams, turn-taking, call flows and speech routing."""

__version__ = "0.1.0"

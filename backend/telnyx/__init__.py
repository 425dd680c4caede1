"""Telnyx: call control commands out, signed webhooks in."""

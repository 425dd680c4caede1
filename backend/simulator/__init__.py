"""A Telnyx stand-in and a scripted caller: whole spoken calls on this machine."""

"""Decisions: no sockets, no event loop, no clock. Time comes in as an argument."""

"""Calls as tests, and an agent to type to: whole calls in memory, or through the real processes."""

"""Adapters to language models and to the tools they call: one a file, all on plain arguments."""

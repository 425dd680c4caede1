"""What outlives a process: calls and turns in a database, agents in files."""

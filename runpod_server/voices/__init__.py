"""Named voices: a reference recording and its transcript each. Knows files, not models."""

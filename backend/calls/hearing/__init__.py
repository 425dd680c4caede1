"""One call's ears: from the line to finished turns."""

"""One call's talk: what is said when, and what is kept of it."""

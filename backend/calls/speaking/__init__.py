"""One call's voice: from words to the line, by whichever route speaks."""

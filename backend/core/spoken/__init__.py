"""How a written text is said: figures, dates, addresses and marks as words. Pure text in, text out."""

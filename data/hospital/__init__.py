"""A hospital's own questions about its own pictures."""

"""JGLUE: understanding of Japanese, four of its sets."""

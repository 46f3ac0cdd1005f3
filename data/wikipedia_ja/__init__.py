"""The Japanese Wikipedia."""

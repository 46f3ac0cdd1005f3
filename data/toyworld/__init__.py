"""The embedded default: a small closed world in Japanese, generated from a seed."""

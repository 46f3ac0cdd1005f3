"""Data sets by name: a card and a converter each."""

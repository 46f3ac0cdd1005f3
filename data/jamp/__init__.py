"""JAMP: inference about time."""

"""JSICK: inference from what sentences are made of."""

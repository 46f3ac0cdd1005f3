"""Benchmarks: one JSON object each."""

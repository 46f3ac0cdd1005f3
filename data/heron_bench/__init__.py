"""Japanese Heron-Bench: open questions about pictures of Japan."""

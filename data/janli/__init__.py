"""JaNLI: inference that shallow cues get wrong."""

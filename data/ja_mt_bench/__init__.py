"""Japanese MT-Bench: questions to talk about."""

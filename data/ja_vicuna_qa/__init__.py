"""Japanese Vicuna QA: questions to talk about."""

"""JMED-LLM: eight tasks on Japanese medical text."""

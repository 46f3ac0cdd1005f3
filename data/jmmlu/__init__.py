"""JMMLU: knowledge of many subjects."""

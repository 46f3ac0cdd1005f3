"""LLM-jp Corpus: Japanese text for pretraining."""

"""LLaVA-Instruct-150K-JA: Japanese conversations about COCO images."""

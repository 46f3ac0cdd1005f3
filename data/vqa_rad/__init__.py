"""VQA-RAD: questions about radiological images."""

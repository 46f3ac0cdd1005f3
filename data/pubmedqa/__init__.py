"""PubMedQA: questions that an abstract answers."""

"""JEMHopQA: questions that take two facts."""

"""JaQuAD: questions about passages of the Japanese Wikipedia."""

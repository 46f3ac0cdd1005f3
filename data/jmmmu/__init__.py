"""JMMMU: questions of 28 subjects about pictures, in Japanese."""

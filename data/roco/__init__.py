"""ROCO: captioned figures of PubMed Central."""

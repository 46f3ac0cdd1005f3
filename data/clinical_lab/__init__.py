"""The national exam for clinical laboratory technologists, with its pictures."""

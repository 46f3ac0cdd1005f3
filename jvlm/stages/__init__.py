"""What each stage of a recipe does: one function each, run in a process of its own."""

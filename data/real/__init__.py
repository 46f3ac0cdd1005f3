"""Real data in one folder, text, pictures and exams, as the recipe reads it."""

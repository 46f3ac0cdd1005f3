"""KokushiMD-10: the national exams of ten health professions, 2020 to 2024."""

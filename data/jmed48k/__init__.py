"""JMed48k: the national exams of eleven health professions, with their pictures."""

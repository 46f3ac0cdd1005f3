"""YakugakuQA: the national exams for pharmacists."""

"""IgakuQA: the national exams for physicians of 2018 to 2022, text only."""

"""Items, scoring, audits, statistics and the report."""

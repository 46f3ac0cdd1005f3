"""NIILC-QA: short questions about facts."""

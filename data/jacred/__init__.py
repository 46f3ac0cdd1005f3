"""JacRED: relations in documents."""

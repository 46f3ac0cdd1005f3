"""Any image → safe pixels; image-text shards: write, index, read, check."""

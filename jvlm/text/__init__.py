"""Raw Japanese text → clean corpus → tokenizer → token shards."""

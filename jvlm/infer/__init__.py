"""Generation, choice likelihoods and captioning jobs."""

"""An HTTP server that speaks OpenAI's chat completions (extra `serve`)."""

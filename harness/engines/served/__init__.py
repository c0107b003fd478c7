"""Models behind an OpenAI-compatible server: what is sent, what is retried, what is kept and what it costs."""

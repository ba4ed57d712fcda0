"""What operators see: logs, metrics, traces. Never a text and never a key."""

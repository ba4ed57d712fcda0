"""The endpoints that programs written for OpenAI's API can use: completions, chat, models."""

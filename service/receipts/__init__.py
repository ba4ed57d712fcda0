"""Signed receipts: what the service states about a text that it wrote, and how anybody checks that without asking it."""

"""What the service keeps: issuers and their keys, API keys, receipts and content fingerprints, an audit log. Never a text.

`open_storage` (in `open.py`) builds all of it from the settings. Everything here blocks on the database: call it from a thread.
"""

"""Requests and answers of the API, shared by the service and its client. Importing them needs neither torch nor a model."""

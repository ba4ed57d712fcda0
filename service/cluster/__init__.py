"""The service as a Ray Serve application: the same API and the same engine, its parts on as many processes or machines as they need."""

"""The REST service: `POST /generate`, `POST /verify`, health, OpenAPI and one page, on top of the library."""

"""The search service: an HTTP API and a page over an index and its model, on one machine or more (Ray Serve)."""

"""Export, server and client."""

"""Small records: one message, row or log line at a time, each decodable alone. See README.md."""

"""What a third party needs to test its own parts: laws as suites, an oracle, a clock that stands still."""

"""Suites: one file per suite type. Each gives items, asks the model under test, and grades what it answered."""

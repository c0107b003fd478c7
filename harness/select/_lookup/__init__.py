"""Where passages come from: an index over given documents, or a search service on the web."""

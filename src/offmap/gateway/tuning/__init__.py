"""Thresholds of a cascade from traffic and a budget: proposed, compared on past traffic, drawn. A person decides."""

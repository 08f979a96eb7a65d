"""The statistical test: from counts of both legs to worse, safe, or undecided."""

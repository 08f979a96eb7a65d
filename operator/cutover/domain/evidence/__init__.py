"""From counts of both legs to worse, not worse, or cannot tell yet."""

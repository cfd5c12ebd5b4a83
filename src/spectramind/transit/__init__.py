"""Light curves in, one transit fit a planet out."""

"""The challenge's archive on disk: readers of both years, fingerprints, submissions."""

"""The stages of a run, one file each, and how they run."""

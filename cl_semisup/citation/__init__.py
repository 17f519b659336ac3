"""Citations: the table of sources (`sources.json`), what a `Source:` entry names in it, BibTeX. Never imports torch."""

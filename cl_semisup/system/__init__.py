"""What the package uses of the machine that it runs on: files, the user's cache folder, a container's limits."""

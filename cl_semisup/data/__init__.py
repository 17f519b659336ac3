"""Images and labels as arrays, the random draws of labels, and random views."""

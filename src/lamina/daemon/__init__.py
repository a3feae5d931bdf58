"""laminad and Engine: the one place that builds the object graph."""

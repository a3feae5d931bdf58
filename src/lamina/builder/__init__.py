"""The builder: a DAG of vertices with content digests, its cache and its execution."""

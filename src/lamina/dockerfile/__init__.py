"""The Dockerfile language: lexer, parser, tree, expansion, ignore patterns. No I/O."""

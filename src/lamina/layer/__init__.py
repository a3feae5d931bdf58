"""What one layer is: tar streams, EROFS metadata, index, apply and diff."""

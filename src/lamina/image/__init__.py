"""Images: names, configurations, layers, archives, pull and push."""

"""`sesame-server bench`: what an engine carries, beside transformers and the roofline."""

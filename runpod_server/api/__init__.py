"""The endpoints, one file a family. They translate; engines speak. None reads settings."""

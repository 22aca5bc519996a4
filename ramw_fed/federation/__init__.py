"""The only importer of Flower in the package."""

"""ramw-fed: six centers learn wrist-bone segmentation and erosion scores together."""

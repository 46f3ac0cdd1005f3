"""STAIR Captions: Japanese captions of COCO images."""

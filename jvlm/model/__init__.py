"""Attention, language model, vision tower, projector, their composition, processor and export."""

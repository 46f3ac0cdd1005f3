"""Streamlit pages: they call infer and eval and hold no logic."""

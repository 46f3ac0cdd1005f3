"""IgakuQA119: the 119th national exam for physicians, with its pictures."""

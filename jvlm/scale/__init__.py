"""A scaling ladder: models of several sizes on matched budgets, the law through their losses, the next size's loss."""

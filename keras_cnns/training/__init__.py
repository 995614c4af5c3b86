"""How a kind of model meets a kind of data: recipes, checkpoints, fit, evaluation."""

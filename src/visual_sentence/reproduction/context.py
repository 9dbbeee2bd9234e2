"""What every table is measured with."""

from dataclasses import dataclass

from .budgets import Budget, Data, Sizes
from .workspace import NotRunnableError, Workspace


@dataclass(frozen=True)
class Context:
    """A run.

    Args:
        workspace: Where finished work is kept.
        budget: How much is spent.
        data: Where the data lies.
        models: References of models by name: the budget's, and over them the user's.
        device: Where models run; the first accelerator by default.
    """

    workspace: Workspace
    budget: Budget
    data: Data
    models: dict[str, str]
    device: str | None = None

    @property
    def sizes(self) -> Sizes:
        """The budget's."""
        return self.budget.sizes

    def replaced(self, *names: str) -> dict[str, str]:
        """Those of some models that the user put in place of the budget's, for the settings of what depends on them."""
        return {name: self.models[name] for name in names if self.models.get(name) != self.budget.models.get(name)}

    def require_training(self, name: str, script: str) -> None:
        """Refuses to train a model with a budget that trains none.

        Raises:
            NotRunnableError: If it trains none.
        """
        if not self.budget.trains:
            raise NotRunnableError(f"needs a trained model: {script}, then --models {name}=FOLDER")

    def model(self, name: str, what: str) -> str:
        """The reference of a model that is only ever given.

        Raises:
            NotRunnableError: If it was not.
        """
        if name not in self.models:
            raise NotRunnableError(f"needs {what}: --models {name}=REFERENCE")
        return self.models[name]


__all__ = ["Context"]

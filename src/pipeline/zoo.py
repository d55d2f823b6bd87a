"""What `zoo/params.yaml` can say: systems to compare with, and how several of them answer together."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.recipes import Recipe, Section, Seed


class ClipsParams(Section):
    """The drawn clips: people, each with one clip a label and in one split only, frames of a clip, and the seed."""

    people: Annotated[int, Field(ge=3, le=2000)] = 80  # drawn in some minutes
    frames: Annotated[int, Field(ge=2, le=64)] = 8
    seed: Seed = 0


class Ensemble(Section):
    """Systems of the zoo that answer together: recipes, or other ensembles.

    `average`: the mean of their probabilities. `weighted`: a mean whose weights make validation most likely.
    `stacking`: a logistic regression on their log-probabilities, fitted on validation (Wolpert 1992).
    `one_against_rest`: of one system for each label, how sure it is, as a share of all.
    """

    how: Literal["average", "weighted", "stacking", "one_against_rest"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]


class Zoo(Section):
    """All of `zoo/params.yaml`: systems to compare with, which never become champion.

    `run` are those of faces, `sequences` those of clips, which are drawn as `clips` says.
    """

    run: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    clips: ClipsParams = ClipsParams()
    recipes: dict[str, Recipe] = {}
    ensembles: dict[str, Ensemble] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for key, names in (("run", self.run), ("sequences", self.sequences)):
            for name in names:
                if name not in self.recipes:
                    raise ValueError(f"{key}: there is no recipe {name!r}; there are {', '.join(self.recipes)}")
                if (self.recipes[name].recurrent is None) == (key == "sequences"):
                    raise ValueError(f"{key}: {name} has the wrong kind of data; run is for faces, sequences for clips")
        for name in self.ensembles:
            if name in self.recipes:
                raise ValueError(f"ensembles.{name} has the name of a recipe")
            self.systems(name)
        return self

    def systems(self, name: str, within: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the recipes that an ensemble is made of in the end; of a recipe, itself.

        Raises:
            ValueError: if one of them does not run, or an ensemble is made of itself.
        """
        if name in within:
            raise ValueError(f"ensembles.{name} is made of itself")
        if name in self.ensembles:
            return sum((self.systems(member, (*within, name)) for member in self.ensembles[name].of), ())
        if name not in self.run:
            raise ValueError(f"ensembles.{within[-1]}.of names {name}, which is no ensemble, and `run` leaves it out")
        return (name,)

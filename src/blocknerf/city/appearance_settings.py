"""How a picture looks: whose appearance it takes, and how far it is exposed."""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from blocknerf.city.city import City


@dataclass(frozen=True, slots=True)
class AppearanceSettings:
    """The appearance of the training image `image_id` if given, else of `drive`, else whatever a picture has by itself.

    With `towards`, the (image id, drive) of another image or the mean of another drive (None, drive), a picture stands
    between the two: at `share` in [0, 1], or, without one, where its place in a path says. `exposure_stops` brighten by
    so many stops.
    """

    image_id: str | None = None
    drive: str | None = None
    towards: tuple[str | None, str | None] | None = None
    share: float | None = None
    exposure_stops: float = 0.0

    def codes(
        self, city: City, block_ids: Iterable[str], own_drive: str | None = None, place: float = 0.0
    ) -> dict[str, Float[Tensor, " dim"] | None]:
        """What each of these blocks is told, for `City.layers`.

        `own_drive` is what a picture has by itself, `place` in [0, 1] how far along a path it lies.
        """
        drive = self.drive or own_drive or city.main_drive
        share = place if self.share is None else self.share
        towards = None if self.towards is None else (*self.towards, share)
        return {
            block_id: city.code_for(block_id, self.image_id, drive, self.exposure_stops, towards=towards)
            for block_id in block_ids
        }

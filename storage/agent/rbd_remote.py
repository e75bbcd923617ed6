"""An image in Ceph as an emulator reaches it."""

from dataclasses import dataclass

from storage.agent.ceph import Clusters
from storage.agent.rbd import Images
from storage.agent.rbd_owners import Claim


@dataclass(frozen=True)
class Remote:
    """An image that an emulator reaches through a connection of its own. `keeps`: the layer that is to be kept of it
    before its guest writes on, if one is. `claim`: None if an older control plane does not say whose it is."""

    clusters: Clusters
    pool: str
    image: str
    size: int
    keeps: str | None = None
    claim: Claim | None = None
    holder: str = ""  # the machine

    def connect(self, *, read_only: bool) -> int:
        """See Images.connect. Refused when the image is another host's by now."""
        images = self._images()
        if self.claim:
            self.claim.make(images, self.image)
        return images.connect(self.image, self.size, read_only=read_only, holder=self.holder)

    def keep(self) -> bool:
        """See Images.keep."""
        assert self.keeps is not None
        return self._images().keep(self.image, self.keeps)

    def _images(self) -> Images:
        return Images(self.clusters.get(self.pool), self.claim)

"""What storage adds to the frame of the pages."""

from cloud.pages import navigation, words
from cloud.pages.navigation import Place

navigation.register(Place("images", "Images", "images", icon="cube", key="d", order=30))
words.OPERATIONS |= {
    "storage.create_volume": "Making",
    "storage.resize_volume": "Growing",
    "storage.snapshot_volume": "Taking a snapshot of",
    "storage.clone_volume": "Cloning",
    "storage.revert_volume": "Reverting",
    "storage.delete_volume": "Deleting",
}
words.STEPS |= {
    "wait_for_source": "Wait for what it is made from",
    "make": "Make its files",
    "make_layer": "Make a new layer",
    "switch": "Write to the new layer",
    "tell_holder": "Tell the instance",
    "wait_for_holder": "Wait for the instance",
    "finish": "Finish",
    "remove_old": "Remove what was written since",
    "grow": "Grow it",
    "remove_files": "Remove its files",
}
words.VERBS |= {
    "resize": "resized",
    "snapshot": "took a snapshot of",
    "revert": "reverted",
}

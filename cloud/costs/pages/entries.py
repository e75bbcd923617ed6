"""What costs add to the frame of the pages."""

from cloud.pages import links, navigation, words
from cloud.pages.navigation import Place

navigation.register(Place("costs", "Costs", "costs", icon="coins", key="j", order=62))
links.register("budget", "costs", in_project=True, has_item=False)
words.VERBS |= {"costs.budget.warn": "warned of"}

"""The API that hosts speak: claim, report, beat. Everything in it is scoped to the host whose token asks."""

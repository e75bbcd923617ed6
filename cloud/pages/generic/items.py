"""Pages about one item: showing it, changing it, doing something to it."""

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse

from cloud.pages import forms, rows, sections
from cloud.pages.base import FormPage, Undo
from cloud.pages.generic.resource import ResourcePage


class ItemPage(ResourcePage):
    """One item, which is `self.item` here and `key` in the template. What is not there, or not seen, is a 404.

    Templates include each of `sections`, which other apps have registered for this `key`.
    """

    by: ClassVar[str] = "pk"  # the column of the id in the path
    gone: ClassVar[str] = ""  # what the 404 says, if there is more to say than usual
    item: Any

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        self.item = self.find_item()

    def find_item(self) -> Any:
        return rows.find(self.rows(), self.kwargs[self.key], self.gone, by=self.by)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show({**self.fill(), **sections.of(self, self.key, self.item)})

    def part_template(self) -> str:
        return super().part_template() or sections.part_of(self.key, self.part_wanted)

    def fill(self) -> dict[str, Any]:
        return {self.key: self.item}

    def after(self) -> str:
        """Where a change leads to."""
        return self.the_list


class ItemFormPage(ItemPage, FormPage):
    """A form about one item."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return FormPage.get(self, request, *args, **kwargs)


class ChangePage(ItemFormPage):
    """A form with what can be changed of an item: `change` calls the service.

    Templates extend `pages/change.html`.
    """

    can_undo: ClassVar[bool] = True

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "title": self.title, "the_list": self.the_list, "after": self.after()}

    def initial(self) -> dict[str, Any]:
        return forms.write(self.item, self.fields)

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        assert self.form is not None
        form = self.form
        return self.mutate(
            lambda: self.change(self.validate(form, body, partial=True)),
            body=body,
            to=lambda row: self.after(),
            done=self.changed,
            undo=(self.request.path, self.initial()) if self.can_undo else None,
        )

    def change(self, changes: dict[str, Any]) -> Any:
        """Call the service."""
        raise NotImplementedError

    def changed(self, row: Any) -> str:
        """The words about what `change` has returned."""
        return "Changed."


class VerbPage(ItemPage):
    """Does something to an item when it is sent a form: deletes it, revokes it, repairs it."""

    http_method_names = ("post",)

    def enter(self, **kwargs: Any) -> None:
        super(ItemPage, self).enter(**kwargs)  # the item is found later: sent twice, the form may have deleted it

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        def work() -> Any:
            self.item = self.find_item()
            return self.act()

        return self.mutate(work, to=lambda result: self.after(), done=self.done, undo=self.undo)

    def act(self) -> Any:
        """Call the service."""
        raise NotImplementedError

    def done(self, result: Any) -> str:
        """The words about what `act` has returned."""
        raise NotImplementedError

    def undo(self) -> Undo | None:
        return None

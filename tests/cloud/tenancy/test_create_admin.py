import io

import pytest
from django.core.management import CommandError, call_command

from cloud.events.models import Event
from cloud.tenancy.models import User

pytestmark = pytest.mark.django_db


def test_an_admin_is_made_and_the_password_printed_opens_the_door():
    out = io.StringIO()
    call_command("create_admin", "ada", stdout=out)
    username, password = out.getvalue().strip().split(" / ")
    ada = User.objects.get(username=username)
    assert ada.is_cloud_admin
    assert ada.check_password(password)
    assert Event.objects.filter(action="tenancy.user.create").count() == 1


def test_a_user_who_is_there_keeps_the_password():
    call_command("create_admin", "ada", stdout=io.StringIO())
    with pytest.raises(CommandError, match="there is a user ada already"):
        call_command("create_admin", "ada", stdout=io.StringIO())

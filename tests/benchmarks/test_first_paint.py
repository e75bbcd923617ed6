"""How soon a page is seen by a browser that has nothing of it yet, with ten thousand instances in its project."""

import statistics

import pytest

from tests.benchmarks.measuring import line
from tests.benchmarks.test_pages import fill
from tests.cloud.dashboard.conftest import world  # noqa: F401
from tests.cloud.dashboard.test_every_page import fill_in, ids_of
from tests.end_to_end.browsers import DESK, Visitor, chromium
from tests.servers import REAL_HASHERS

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]

ROUNDS = 5
PAGES = (
    "sign-in",
    "projects/<str:project>",
    "projects/<str:project>/instances",
    "projects/<str:project>/instances/<uuid:instance>",
    "projects/<str:project>/launch",
    "cloud/hosts",
)
PAINTED = """new Promise((tell) => new PerformanceObserver((seen) => {
  for (const paint of seen.getEntriesByName("first-contentful-paint")) tell(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""  # ms after the request for the page


def test_first_paint_on_a_cold_cache(world, servers, cloud_admin, settings):  # noqa: F811
    known = ids_of(world, cloud_admin)
    settings.PASSWORD_HASHERS = REAL_HASHERS  # as web checks them
    cloud_admin.set_password("first paint")
    cloud_admin.save()
    fill(world)
    with chromium() as browser:
        visitor = Visitor(browser, servers.url, viewport=DESK)
        visitor.sign_in(cloud_admin.username, "first paint")
        signed_in = visitor.context.storage_state()
        for route in PAGES:
            taken = []
            for _ in range(ROUNDS):
                context = browser.new_context(
                    base_url=servers.url, viewport=DESK, storage_state=None if route == "sign-in" else signed_in
                )
                page = context.new_page()
                answer = page.goto(fill_in(route, known), wait_until="load")
                assert getattr(answer, "ok", False), route
                taken.append(float(page.evaluate(PAINTED)))
                context.close()
            line(f"/{route}", target="≤ 1000 ms", p50_ms=statistics.median(taken), max_ms=max(taken))

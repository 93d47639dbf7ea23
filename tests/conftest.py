"""How the whole suite is run: files that hold slow tests first, so that several processes end at about the same time."""

import pytest

pytest_plugins = ["tests.support.browser"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("extra")}
    items.sort(key=lambda item: item.path not in slow)

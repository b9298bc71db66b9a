# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which options of an image decide its key."""

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.inputs import Contexts, read_inputs

OPENCONTAINERS = "org.opencontainers.image"


@pytest.fixture
def key(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")

    def of(**options):
        common = {"context": str(context), "tags": ["r.example.com/app:1"], "push": True}
        return read_inputs(Image.from_params({**common, **options}), Contexts(str(tmp_path / "notes")), tmp_path).key

    return of


@pytest.mark.parametrize("option", ["labels", "annotations"])
@pytest.mark.parametrize(
    ("name", "of_origin"),
    [("created", True), ("revision", True), ("source", True), ("version", True), ("title", False)],
)
def test_where_an_image_is_from_is_none_of_its_key(key, option, name, of_origin):
    values = [{}, {f"{OPENCONTAINERS}.{name}": "1"}, {f"{OPENCONTAINERS}.{name}": "2"}]
    assert len({key(**{option: value}) for value in values}) == (1 if of_origin else 3)


def test_nor_is_it_as_annotation_of_the_index(key):
    revision = f"index,manifest:{OPENCONTAINERS}.revision"
    assert key(annotations={revision: "1"}) == key(annotations={revision: "2"}) == key()
    assert key(annotations={"index:com.example.a": "1"}) != key(annotations={"index:com.example.a": "2"})

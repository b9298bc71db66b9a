# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do where docker, BuildKit or buildx do not trust a registry's certificate."""

from __future__ import annotations

import re

#: Go's words, ``crypto/x509`` ``UnknownAuthorityError``, which all of them pass on.
_UNTRUSTED = re.compile(r"x509: certificate signed by unknown authority")
#: How what is missing becomes known to all that need it.
REMEDY = "name its authority in engine_registry_authorities, and run the playbook site"


def advice(said: str, who: str) -> str:
    """Return what to do about a registry that is not trusted, as the end of a message; empty for any other problem.

    :param said: what was said of the problem.
    :param who: does not trust it.
    """
    return f"; {who} does not trust the registry's certificate: {REMEDY}" if _UNTRUSTED.search(said) else ""

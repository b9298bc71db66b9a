# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's own names of files."""

from __future__ import annotations

DEFAULT_SOCKET = "/var/run/docker.sock"
#: What docker calls the files of TLS material, without ``.pem``.
TLS_NAMES = ("ca", "cert", "key")
#: Where an engine of this collection has them.
TLS_DIRECTORY = "/etc/docker/tls"

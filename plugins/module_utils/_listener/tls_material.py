# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listener's certificates, judged as its clients and its engine will judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .._docker import tls
from .declaration import Declaration

_NO_FILE = "there is no such file"


@dataclass(frozen=True)
class Findings:
    """What is wrong with TLS material, in words; None each where nothing is, or it was not given.

    :ivar ca: why the declared CA is not usable.
    :ivar key: why the declared key cannot serve the declared certificate.
    :ivar held_key: why the key on the host cannot serve the declared certificate.
    :ivar certificate: why no client that trusts the declared CA would accept the certificate. None where there is no
        usable key too, as it takes one to find out.
    """

    ca: Optional[str] = None
    key: Optional[str] = None
    held_key: Optional[str] = _NO_FILE
    certificate: Optional[str] = None


def inspect(declaration: Declaration, held_key: Optional[bytes]) -> Findings:
    """Judge the declared certificates and the keys; a handshake in memory is part of it.

    :param held_key: PEM; the key on the host, None where it has none.
    """
    ca, certificate, key = declaration.ca, declaration.certificate, declaration.key
    ca_problem = tls.ca_problem(ca) if ca else None
    if certificate is None:
        return Findings(ca=ca_problem)
    key_problem = tls.key_problem(certificate, key) if key else None
    held_problem = tls.key_problem(certificate, held_key) if held_key else _NO_FILE
    served, served_problem = (key, key_problem) if key else (held_key, held_problem)
    judged = ca and not ca_problem and served and not served_problem
    problem = tls.certificate_problem(ca, certificate, served) if judged and ca and served else None
    return Findings(ca_problem, key_problem, held_problem, problem)

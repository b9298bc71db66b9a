# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives that others have packed."""

from __future__ import annotations

import tarfile

#: The members of an archive that say something of the next one, and that ``tarfile`` reads into memory as a whole.
_ABOUT_OTHERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
#: Bytes of one: names have 4096 at most, and all extended attributes of a file 64 KiB.
_LONGEST = 1 << 20


class Member(tarfile.TarInfo):
    """For ``tarfile``'s option ``tarinfo``: a member whose names do not fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Member:
        """Read a header.

        :raises ReadError: it announces more than any name or attribute has.
        """
        found = super().frombuf(buf, encoding, errors)
        if found.type in _ABOUT_OTHERS and found.size > _LONGEST:
            raise tarfile.ReadError(f"a name or attribute of {found.size} bytes")
        return found

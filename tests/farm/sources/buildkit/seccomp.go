// Stands in for github.com/moby/profiles/seccomp, which Debian does not carry:
// containerd's default profile in place of Moby's, from which it descends.

package seccomp

import (
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func GetDefaultProfile(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	return seccomp.DefaultProfile(spec), nil
}

// Takes the place of BuildKit's main_oci_worker.go while it is compiled: the
// same worker and the same settings, less the snapshotters whose sources
// Debian does not carry (fuse-overlayfs, stargz).

package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/util/network/cniprovider"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	"github.com/urfave/cli"
	"golang.org/x/sync/semaphore"
)

func init() {
	registerWorkerInitializer(
		workerInitializer{fn: newOCIWorkers, priority: 0},
		cli.StringFlag{Name: "oci-worker", Usage: "true, false or auto"},
		cli.StringSliceFlag{Name: "oci-worker-labels", Usage: "KEY=VALUE"},
		cli.StringFlag{Name: "oci-worker-snapshotter", Usage: "auto, overlayfs or native"},
		cli.StringSliceFlag{Name: "oci-worker-platform", Usage: "instead of the detected ones"},
		cli.StringFlag{Name: "oci-worker-net", Usage: "auto, bridge, cni or host"},
		cli.BoolTFlag{Name: "oci-worker-gc", Usage: "collect garbage"},
		cli.StringFlag{Name: "oci-worker-gc-keepstorage", Usage: "Reserved[,Free[,Maximum]] (MB)"},
		cli.IntFlag{Name: "oci-max-parallelism", Usage: "steps that may run at a time"},
	)
}

// flagsOver lays the command line over the configuration file.
func flagsOver(c *cli.Context, oci *config.OCIConfig) error {
	if c.GlobalIsSet("oci-worker") {
		enabled, err := parseBoolOrAuto(c.GlobalString("oci-worker"))
		if err != nil {
			return err
		}
		oci.Enabled = enabled
	}
	labels, err := attrMap(c.GlobalStringSlice("oci-worker-labels"))
	if err != nil {
		return err
	}
	if oci.Labels == nil {
		oci.Labels = map[string]string{}
	}
	maps.Copy(oci.Labels, labels)
	if c.GlobalIsSet("oci-worker-snapshotter") {
		oci.Snapshotter = c.GlobalString("oci-worker-snapshotter")
	}
	if platforms := c.GlobalStringSlice("oci-worker-platform"); len(platforms) > 0 {
		oci.Platforms = platforms
	}
	if c.GlobalIsSet("oci-worker-net") {
		oci.Mode = c.GlobalString("oci-worker-net")
	}
	if c.GlobalIsSet("oci-worker-gc") {
		collect := c.GlobalBool("oci-worker-gc")
		oci.GC = &collect
	}
	if c.GlobalIsSet("oci-worker-gc-keepstorage") {
		gc, err := stringToGCConfig(c.GlobalString("oci-worker-gc-keepstorage"))
		if err != nil {
			return err
		}
		oci.GCReservedSpace = gc.GCReservedSpace
		oci.GCMinFreeSpace = gc.GCMinFreeSpace
		oci.GCMaxUsedSpace = gc.GCMaxUsedSpace
	}
	if c.GlobalIsSet("oci-max-parallelism") {
		oci.MaxParallelism = c.GlobalInt("oci-max-parallelism")
	}
	return nil
}

func newOCIWorkers(c *cli.Context, common workerInitializerOpt) ([]worker.Worker, error) {
	if err := flagsOver(c, &common.config.Workers.OCI); err != nil {
		return nil, err
	}
	cfg := common.config.Workers.OCI
	if cfg.Enabled != nil && !*cfg.Enabled {
		return nil, nil
	}
	binary := cfg.Binary
	if binary == "" {
		binary = "runc"
	}
	if _, err := exec.LookPath(binary); err != nil {
		return nil, err
	}
	snapshotter, err := newSnapshotter(cfg.Snapshotter, common.config.Root)
	if err != nil {
		return nil, err
	}
	cdi, err := getCDIManager(common.config.CDI)
	if err != nil {
		return nil, err
	}
	network := netproviders.Opt{Mode: cfg.Mode, CNI: cniprovider.Opt{
		Root:         common.config.Root,
		ConfigPath:   cfg.CNIConfigPath,
		BinaryDir:    cfg.CNIBinaryPath,
		PoolSize:     cfg.CNIPoolSize,
		BridgeName:   cfg.BridgeName,
		BridgeSubnet: cfg.BridgeSubnet,
	}}
	var slots *semaphore.Weighted
	if cfg.MaxParallelism > 0 {
		slots = semaphore.NewWeighted(int64(cfg.MaxParallelism))
	}
	opt, err := runc.NewWorkerOpt(
		common.config.Root, snapshotter, false, oci.ProcessSandbox, cfg.Labels, nil, network,
		getDNSConfig(common.config.DNS), cfg.Binary, cfg.ApparmorProfile, cfg.SELinux, slots,
		common.traceSocket, cfg.DefaultCgroupParent, cdi,
	)
	if err != nil {
		return nil, err
	}
	opt.GCPolicy = getGCPolicy(cfg.GCConfig, common.config.Root)
	opt.BuildkitVersion = getBuildkitVersion()
	opt.RegistryHosts = resolverFunc(common.config)
	if len(cfg.Platforms) > 0 {
		if opt.Platforms, err = parsePlatforms(cfg.Platforms); err != nil {
			return nil, fmt.Errorf("worker.oci: platforms: %w", err)
		}
	}
	w, err := base.NewWorker(context.Background(), opt)
	if err != nil {
		return nil, err
	}
	return []worker.Worker{w}, nil
}

func newSnapshotter(name, root string) (runc.SnapshotterFactory, error) {
	if name == "" || name == "auto" {
		name = "overlayfs"
		if overlayutils.Supported(root) != nil {
			name = "native"
		}
	}
	factory := runc.SnapshotterFactory{Name: name, New: native.NewSnapshotter}
	switch name {
	case "native":
	case "overlayfs":
		factory.New = func(root string) (snapshots.Snapshotter, error) {
			return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
		}
	default:
		return factory, fmt.Errorf("snapshotter %q is not in this build", name)
	}
	return factory, nil
}

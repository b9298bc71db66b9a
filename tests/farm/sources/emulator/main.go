// Registers QEMU's user mode emulators with the kernel, with the command line,
// the output and the manners of the program in the image tonistiigi/binfmt:
//
//	binfmt [--mount DIR] [--uninstall NAME,…] [--install all|ARCH,…] [--version]
//
// Whatever fails, it exits 0. It never replaces an entry that exists, and prints
// what it found in the end as JSON.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/util/archutil"
)

// Set while linking.
var version, qemuVersion = "unknown", "unknown"

// target is what tells a foreign binary: bytes 0 to 19 of its ELF header.
type target struct {
	arch     string
	emulator string
	bits     byte
	big      bool   // big-endian
	machine  uint16 // e_machine
	ignore   map[int]byte
}

// The values of e_machine are the ELF specifications'; the masks are those of
// QEMU's scripts/qemu-binfmt-conf.sh where they differ from the common one.
var (
	intel   = map[int]byte{5: 0xfe, 6: 0xfe}
	abi     = map[int]byte{8: 0x00}
	targets = []target{
		{"amd64", "qemu-x86_64", 64, false, 62, intel},
		{"arm64", "qemu-aarch64", 64, false, 183, nil},
		{"arm", "qemu-arm", 32, false, 40, nil},
		{"s390x", "qemu-s390x", 64, true, 22, nil},
		{"ppc64le", "qemu-ppc64le", 64, false, 21, map[int]byte{19: 0x00}},
		{"riscv64", "qemu-riscv64", 64, false, 243, nil},
		{"386", "qemu-i386", 32, false, 3, intel},
		{"mips64le", "qemu-mips64el", 64, false, 8, abi},
		{"mips64", "qemu-mips64", 64, true, 8, abi},
		{"loong64", "qemu-loongarch64", 64, false, 258, map[int]byte{7: 0xfc, 8: 0x00}},
	}
)

func (t target) binary() string {
	return filepath.Join("/usr/bin", t.emulator)
}

// magicAndMask gives the bytes to compare and which of their bits count. The
// mask leaves out the OS ABI (byte 7), and the lowest bit of e_type, so that
// both ET_EXEC (2) and ET_DYN (3) match.
func (t target) magicAndMask() ([]byte, []byte) {
	magic := append([]byte{0x7f, 'E', 'L', 'F', t.bits / 32, 1, 1}, make([]byte, 13)...)
	mask := slices.Repeat([]byte{0xff}, len(magic))
	low, high := 0, 1 // where a two-byte number's halves lie
	if t.big {
		magic[5] = 2
		low, high = 1, 0
	}
	magic[16+low] = 2
	magic[18+low], magic[18+high] = byte(t.machine), byte(t.machine>>8)
	mask[7], mask[16+low] = 0x00, 0xfe
	for at, bits := range t.ignore {
		mask[at] = bits
	}
	return magic, mask
}

// register writes the entry in the kernel's syntax, see the kernel's
// Documentation/admin-guide/binfmt-misc.rst.
func (t target) register(directory string) error {
	flags := "CF"
	if os.Getenv("QEMU_PRESERVE_ARGV0") != "" {
		flags += "P"
	}
	magic, mask := t.magicAndMask()
	line := fmt.Sprintf(":%s:M:0:%s:%s:%s:%s",
		t.emulator, escaped(magic), escaped(mask), t.binary(), flags)
	path := filepath.Join(directory, "register")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(line)
	if errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("%s already registered", t.emulator)
	}
	if err != nil {
		return fmt.Errorf("cannot register %q to %s: %w", t.binary(), path, err)
	}
	return nil
}

func escaped(data []byte) string {
	var text strings.Builder
	for _, b := range data {
		fmt.Fprintf(&text, `\x%02x`, b)
	}
	return text.String()
}

func install(directory, wanted string) {
	for _, arch := range wantedArches(wanted) {
		at := slices.IndexFunc(targets, func(t target) bool { return t.arch == arch })
		err := fmt.Errorf("unsupported architecture: %s", arch)
		if at >= 0 {
			err = targets[at].register(directory)
		}
		report("installing", arch, err)
	}
}

// wantedArches resolves the argument of --install. "all" are those that cannot
// run yet and whose emulator is here.
func wantedArches(wanted string) []string {
	var arches []string
	if wanted == "all" {
		var running []string
		for _, platform := range archutil.SupportedPlatforms(true) {
			running = append(running, platform.Architecture)
		}
		for _, t := range targets {
			_, err := os.Stat(t.binary())
			if err == nil && !slices.Contains(running, t.arch) {
				arches = append(arches, t.arch)
			}
		}
		return arches
	}
	for _, name := range split(wanted) {
		if platform, err := platforms.Parse(name); err == nil {
			name = platform.Architecture
		}
		arches = append(arches, name)
	}
	return arches
}

// uninstall takes architectures, platforms, names of entries and patterns of
// names.
func uninstall(directory, unwanted string) {
	for _, name := range split(unwanted) {
		if platform, err := platforms.Parse(name); err == nil {
			for _, t := range targets {
				if t.arch == platform.Architecture {
					name = t.emulator
				}
			}
		}
		var found []string
		for _, entry := range entries(directory) {
			if ok, _ := filepath.Match(name, entry); ok || strings.HasSuffix(entry, "-"+name) {
				found = append(found, entry)
			}
		}
		if len(found) == 0 {
			report("uninstalling", name, errors.New("not found"))
		}
		for _, entry := range found {
			report("uninstalling", entry,
				os.WriteFile(filepath.Join(directory, entry), []byte("-1"), 0o600))
		}
	}
}

func report(what, name string, err error) {
	if err != nil {
		log.Printf("%s: %s %v", what, name, err)
		return
	}
	log.Printf("%s: %s OK", what, name)
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// entries names all handlers, also those of other programs (jar, python …).
func entries(directory string) []string {
	files, err := os.ReadDir(directory)
	if err != nil {
		log.Printf("error: %v", err)
	}
	var names []string
	for _, file := range files {
		if file.Name() != "register" && file.Name() != "status" {
			names = append(names, file.Name())
		}
	}
	return names
}

func printState(directory string) {
	state := struct {
		Supported []string `json:"supported"`
		Emulators []string `json:"emulators"`
	}{}
	for _, platform := range archutil.SupportedPlatforms(true) {
		state.Supported = append(state.Supported, platforms.FormatAll(platforms.Normalize(platform)))
	}
	for _, entry := range entries(directory) {
		text, err := os.ReadFile(filepath.Join(directory, entry))
		if err == nil && strings.HasPrefix(string(text), "enabled") {
			state.Emulators = append(state.Emulators, entry)
		}
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		log.Printf("error: %v", err)
		return
	}
	fmt.Println(string(text))
}

func main() {
	log.SetFlags(0)
	archutil.CacheMaxAge = 0
	directory := flag.String("mount", "/proc/sys/fs/binfmt_misc", "where binfmt_misc is mounted")
	wanted := flag.String("install", "", "architectures to install, or all")
	unwanted := flag.String("uninstall", "", "architectures, entries or patterns to remove")
	showVersion := flag.Bool("version", false, "show the version")
	flag.Parse()
	if *showVersion {
		log.Printf("binfmt/%s qemu/%s go/%s", version, qemuVersion, runtime.Version()[2:])
		return
	}
	if _, err := os.Stat(filepath.Join(*directory, "status")); err != nil {
		if err := syscall.Mount("binfmt_misc", *directory, "binfmt_misc", 0, ""); err != nil {
			log.Printf("error: cannot mount binfmt_misc filesystem at %s: %v", *directory, err)
			return
		}
		// In the container's own mount namespace; the handlers stay.
		defer func() { _ = syscall.Unmount(*directory, 0) }()
	}
	uninstall(*directory, *unwanted)
	install(*directory, *wanted)
	printState(*directory)
}

package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bothy/test/peer"
)

// disk is a small ext4 of its own on a loop device, which can be made to fail for real: the kernel refuses whatever lies beyond a
// device's end, and where that end is can be changed at any time.
type disk struct {
	image, loop, dir string
}

// newDisk mounts a disk of so many MiB. Where the machine has no loop devices the test is skipped.
func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	peer.NeedRoot(t)
	peer.Need(t, "losetup", "mkfs.ext4", "fsfreeze")
	folder := t.TempDir()
	d := &disk{image: filepath.Join(folder, "image"), dir: filepath.Join(folder, "disk")}
	if err := os.Mkdir(d.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	d.run(t, "mkfs.ext4", "-q", d.image)
	if err := d.attach(t); err != nil {
		t.Skip("no loop device: ", err)
	}
	t.Cleanup(func() { d.detach(t) })
	return d
}

func (d *disk) run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, code := peer.Run(t, "", name, args...); code != 0 {
		t.Fatalf("%s %s: exit %d\n%s", name, strings.Join(args, " "), code, out)
	}
}

// attach puts the disk into the machine, as after a start: what the journal says is done first.
func (d *disk) attach(t *testing.T) error {
	t.Helper()
	out, code := peer.Run(t, "", "losetup", "--find", "--show", d.image)
	if code != 0 {
		return fmt.Errorf("losetup: %s", out)
	}
	d.loop = strings.TrimSpace(out)
	if out, code := peer.Run(t, "", "mount", "-o", "errors=continue", d.loop, d.dir); code != 0 {
		d.detach(t)
		return fmt.Errorf("mount: %s", out)
	}
	return nil
}

// detach takes it out, with whatever nobody has written.
func (d *disk) detach(t *testing.T) {
	if d.loop == "" {
		return
	}
	if err := unix.Unmount(d.dir, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is not mounted
		t.Errorf("unmount: %v", err)
	}
	if out, err := exec.Command("losetup", "--detach", d.loop).CombinedOutput(); err != nil { // not peer.Run: t's context may be over
		t.Errorf("losetup: %v: %s", err, out)
	}
	d.loop = ""
}

// fail makes every write that is not yet on its way fail with EIO. What is in memory only and was to be
// written is lost: the kernel tells one fsync of it and then takes it for clean.
func (d *disk) fail(t *testing.T) { d.limit(t, 4096) }

// limit says how many octets of the image the device has; 0: all.
func (d *disk) limit(t *testing.T, octets uint64) {
	t.Helper()
	f, err := os.OpenFile(d.loop, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == nil {
		info.Sizelimit = octets
		err = unix.IoctlLoopSetStatus64(int(f.Fd()), info)
	}
	if err != nil {
		t.Fatalf("%s: %v", d.loop, err)
	}
}

// thaw ends fsfreeze.
func (d *disk) thaw() { exec.Command("fsfreeze", "--unfreeze", d.dir).Run() }

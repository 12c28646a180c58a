package drop

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncNames has the name of f on disk. Who may not read the folder may not sync it: then the file system is synced, as far as it is dirty.
func syncNames(dir string, f *os.File) error {
	if d, err := os.Open(dir); err == nil {
		defer d.Close()
		return d.Sync()
	}
	return unix.Syncfs(int(f.Fd()))
}

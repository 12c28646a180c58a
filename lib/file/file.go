// Package file writes small files that must be there whole after a power cut: keys, certificates, configurations. Standard library only.
//
// rename(2) swaps a name between two contents at once, but neither the new content nor the name need be on the disk by then: both are
// synced here, in that order.
package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace makes content all that is in a file, with the permissions of mode. A reader sees what was there before or all of content, and so does whoever
// comes after a power cut; when it returns nil, only the latter. On an error what was there still is, unless only the last sync failed.
func Replace(name string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // hidden from those who read whole directories
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(name))
}

// SyncDir has the names in a directory on the disk: of files that were made, renamed or removed there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

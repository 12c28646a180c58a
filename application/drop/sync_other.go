//go:build !linux

package drop

import "os"

// syncNames has the name of f on disk.
func syncNames(dir string, _ *os.File) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

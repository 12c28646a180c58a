package mailbox

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
)

// disk is the file system. Before each step it asks fault, when a test set one: the step fails with what fault returns.
type disk struct {
	fault func(step, path string) error
}

func (d disk) step(step, path string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(step, path)
}

// stage writes a file of a new name and syncs it. On an error nothing is left of it, when the disk lets us.
func (d disk) stage(dir, pattern string, write func(io.Writer) error) (path string, size int64, err error) {
	if err := d.step("create", dir); err != nil {
		return "", 0, err
	}
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			d.remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(diskWriter{d, f}, chunk)
	if err := write(w); err != nil {
		return "", 0, err
	}
	if err := w.Flush(); err != nil {
		return "", 0, err
	}
	if err := d.step("sync", f.Name()); err != nil {
		return "", 0, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	return f.Name(), info.Size(), f.Close()
}

type diskWriter struct {
	d disk
	f *os.File
}

func (w diskWriter) Write(p []byte) (int, error) {
	if err := w.d.step("write", w.f.Name()); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

func (d disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (d disk) remove(path string) error {
	if err := d.step("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// syncDir makes the names in a folder durable.
func (d disk) syncDir(dir string) error {
	if err := d.step("syncdir", dir); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// makeDir makes a folder in one that is there, durably; it may be there already.
func (d disk) makeDir(parent, name string) error {
	path := filepath.Join(parent, name)
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return d.syncDir(parent)
}

package wal

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"bothy/lib/file"
)

// OS returns the file system of the machine.
func OS() FS { return osFS{} }

type osFS struct{}

const (
	filePerm = 0o600 // mail and leases are nobody else's business
	dirPerm  = 0o700
)

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (o osFS) Mkdir(dir string) error {
	err := os.Mkdir(dir, dirPerm)
	switch {
	case err == nil:
		return o.SyncDir(filepath.Dir(dir))
	case os.IsExist(err):
		return nil
	case os.IsNotExist(err) && filepath.Dir(dir) != dir:
		if err := o.Mkdir(filepath.Dir(dir)); err != nil {
			return err
		}
		return o.Mkdir(dir)
	}
	return err
}

func (osFS) SyncDir(dir string) error { return file.SyncDir(dir) }

func (osFS) Free(dir string) (int64, error) {
	free, _, err := space(dir)
	return free, err
}

func (osFS) Total(dir string) (int64, error) {
	_, total, err := space(dir)
	return total, err
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	return f, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Allocate reserves the blocks, which finds a full disk at once, and then writes zeros over the new part: on ext4 the first
// write to a block that is reserved but never written changes metadata, and the next fdatasync pays for it.
func (f osFile) Allocate(size int64) error {
	from, err := f.Size()
	if err != nil {
		return err
	}
	if err := reserve(f.File, size); err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for from < size {
		n := min(size-from, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}

package authres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bothy/lib/file"
)

// Keys are kept one a file, named as in the DNS: "2026._domainkey.clinic.example.pem", mode 0600.
const (
	keySuffix = ".pem"
	keyMark   = "._domainkey."
	maxKey    = 64 << 10 // octets of a key's file
)

// WriteKey puts a key into a folder, synced. It returns fs.ErrExist (wrapped) where there is one of that name: who needs a new key
// takes a new selector, since the old record must stay while signed mail is under way (RFC 6376 §3.1).
func WriteKey(folder string, k *Key) error {
	text, err := k.PEM()
	if err != nil {
		return err
	}
	name := filepath.Join(folder, k.Name()+keySuffix)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("authres: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = file.SyncDir(folder)
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("authres: %w", err)
	}
	return nil
}

// ReadKeys reads all keys of a folder, sorted by name; none where there is no folder.
func ReadKeys(folder string) ([]*Key, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("authres: %w", err)
	}
	var keys []*Key
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), keySuffix)
		selector, domain, marked := strings.Cut(name, keyMark)
		if !ok || !marked {
			continue
		}
		k, err := readKey(filepath.Join(folder, e.Name()), domain, selector)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b *Key) int { return strings.Compare(a.Name(), b.Name()) })
	return keys, nil
}

func readKey(file, domain, selector string) (*Key, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKey {
		return nil, fmt.Errorf("%w: a file of %d octets", ErrKey, info.Size())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseKey(domain, selector, text)
}

package dhcp6

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"bothy/lib/file"
)

// Identity reads a server's DUID and its secret from a file, which is made when it is missing. A DUID must never change (RFC 9915 §11), so
// the file is on the disk before it is used.
func Identity(name string) (duid, secret []byte, err error) {
	const size = 18 + 32
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = make([]byte, size), nil
		rand.Read(b)                                  // never fails
		b[0], b[1] = 0, 4                             // RFC 9915 §11.5: DUID-UUID
		b[8], b[10] = b[8]&0x0f|0x40, b[10]&0x3f|0x80 // version 4, RFC 9562's variant
		err = file.Replace(name, b, 0o600)
	}
	if err == nil && len(b) != size {
		err = fmt.Errorf("%s: %d octets instead of %d: it is not this server's identity", name, len(b), size)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("dhcp6: %w", err)
	}
	return b[:18], b[18:], nil
}

// Package sha1 computes SHA-1 where it is no security feature, also in a
// process that runs with GODEBUG=fips140=only, in which crypto/sha1 panics.
// The toolchain has a way around that from Go 1.26 on.
package sha1

import (
	"crypto/sha1"
	"errors"
)

// ErrRefused is returned where FIPS 140-3 enforcement cannot be lifted.
var ErrRefused = errors.New("SHA-1 is refused by GODEBUG=fips140=only; build with Go 1.26 or later")

// Sum returns the SHA-1 of data.
func Sum(data []byte) (sum [sha1.Size]byte, err error) {
	defer func() {
		if recover() != nil {
			err = ErrRefused
		}
	}()
	unenforced(func() { sum = sha1.Sum(data) })
	return sum, nil
}

//go:build go1.26

package sha1

import "crypto/fips140"

func unenforced(f func()) { fips140.WithoutEnforcement(f) }

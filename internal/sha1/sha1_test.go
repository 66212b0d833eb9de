package sha1

import (
	stdsha1 "crypto/sha1"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestSum(t *testing.T) {
	for in, want := range map[string]string{ // FIPS 180-1, appendices A and B
		"":    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"abc": "a9993e364706816aba3e25717850c26c9cd0d89d",
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
	} {
		sum, err := Sum([]byte(in))
		if got := hex.EncodeToString(sum[:]); got != want || err != nil {
			t.Errorf("%q: %s, %v, want %s", in, got, err, want)
		}
	}
}

// TestFIPS runs this test binary again where SHA-1 is forbidden.
func TestFIPS(t *testing.T) {
	const inside = "SHA1_TEST_FIPS"
	if os.Getenv(inside) != "" {
		panicked := func() (p bool) {
			defer func() { p = recover() != nil }()
			stdsha1.Sum(nil)
			return
		}()
		if !panicked {
			t.Skip("crypto/sha1 is not forbidden here")
		}
		sum, err := Sum([]byte("abc"))
		switch {
		case err == nil && hex.EncodeToString(sum[:]) == "a9993e364706816aba3e25717850c26c9cd0d89d":
		case errors.Is(err, ErrRefused) && sum == [20]byte{} && strings.HasPrefix(runtime.Version(), "go1.25"):
		default:
			t.Fatalf("%x, %v", sum, err)
		}
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1", "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil {
		if _, ran := err.(*exec.ExitError); !ran {
			t.Skip("no processes here: ", err)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("crypto/sha1 is not forbidden by this toolchain")
	}
}

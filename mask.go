package websocket

import (
	"encoding/binary"
	"math/bits"
)

// A maskKey is the masking key of a frame, its first byte lowest, so that the
// key for the bytes after the next n is the same key rotated by n bytes.
type maskKey uint32

// mask applies key to b in place and returns the key for the bytes that
// follow b (RFC 6455 §5.3). Masking and unmasking are the same.
//
// The loop over blocks of 16 words is what the compiler turns into code that
// runs at about the speed of memory; more unrolling gains nothing.
func mask(key maskKey, b []byte) maskKey {
	if key == 0 { // that of a server's frames, which have none
		return 0
	}
	k := uint64(key)<<32 | uint64(key)
	for len(b) >= 128 {
		w := (*[128]byte)(b)
		binary.LittleEndian.PutUint64(w[0:], binary.LittleEndian.Uint64(w[0:])^k)
		binary.LittleEndian.PutUint64(w[8:], binary.LittleEndian.Uint64(w[8:])^k)
		binary.LittleEndian.PutUint64(w[16:], binary.LittleEndian.Uint64(w[16:])^k)
		binary.LittleEndian.PutUint64(w[24:], binary.LittleEndian.Uint64(w[24:])^k)
		binary.LittleEndian.PutUint64(w[32:], binary.LittleEndian.Uint64(w[32:])^k)
		binary.LittleEndian.PutUint64(w[40:], binary.LittleEndian.Uint64(w[40:])^k)
		binary.LittleEndian.PutUint64(w[48:], binary.LittleEndian.Uint64(w[48:])^k)
		binary.LittleEndian.PutUint64(w[56:], binary.LittleEndian.Uint64(w[56:])^k)
		binary.LittleEndian.PutUint64(w[64:], binary.LittleEndian.Uint64(w[64:])^k)
		binary.LittleEndian.PutUint64(w[72:], binary.LittleEndian.Uint64(w[72:])^k)
		binary.LittleEndian.PutUint64(w[80:], binary.LittleEndian.Uint64(w[80:])^k)
		binary.LittleEndian.PutUint64(w[88:], binary.LittleEndian.Uint64(w[88:])^k)
		binary.LittleEndian.PutUint64(w[96:], binary.LittleEndian.Uint64(w[96:])^k)
		binary.LittleEndian.PutUint64(w[104:], binary.LittleEndian.Uint64(w[104:])^k)
		binary.LittleEndian.PutUint64(w[112:], binary.LittleEndian.Uint64(w[112:])^k)
		binary.LittleEndian.PutUint64(w[120:], binary.LittleEndian.Uint64(w[120:])^k)
		b = b[128:]
	}
	for len(b) >= 32 {
		w := (*[32]byte)(b)
		binary.LittleEndian.PutUint64(w[0:], binary.LittleEndian.Uint64(w[0:])^k)
		binary.LittleEndian.PutUint64(w[8:], binary.LittleEndian.Uint64(w[8:])^k)
		binary.LittleEndian.PutUint64(w[16:], binary.LittleEndian.Uint64(w[16:])^k)
		binary.LittleEndian.PutUint64(w[24:], binary.LittleEndian.Uint64(w[24:])^k)
		b = b[32:]
	}
	for len(b) >= 8 {
		w := (*[8]byte)(b)
		binary.LittleEndian.PutUint64(w[:], binary.LittleEndian.Uint64(w[:])^k)
		b = b[8:]
	}
	if len(b) >= 4 {
		w := (*[4]byte)(b)
		binary.LittleEndian.PutUint32(w[:], binary.LittleEndian.Uint32(w[:])^uint32(key))
		b = b[4:]
	}
	for i := range b {
		b[i] ^= byte(k >> (8 * i))
	}
	return maskKey(bits.RotateLeft32(uint32(key), -8*len(b)))
}

package websocket

import (
	"bytes"
	"fmt"
	"testing"
)

// maskKeys are those of the tables, and some that tell the bytes apart.
var maskKeys = [][4]byte{
	{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, // M-03
	{0x37, 0xfa, 0x21, 0x3d}, {1, 2, 3, 4}, {0x80, 0, 0, 1},
}

func keyOf(k [4]byte) maskKey {
	return maskKey(k[0]) | maskKey(k[1])<<8 | maskKey(k[2])<<16 | maskKey(k[3])<<24
}

// bytewise is the formula of RFC 6455 §5.3.
func bytewise(key [4]byte, p []byte) []byte {
	out := make([]byte, len(p))
	for i := range p {
		out[i] = p[i] ^ key[i%4]
	}
	return out
}

func TestM04Masking(t *testing.T) {
	const margin = 16
	for _, key := range maskKeys {
		for length := range 71 {
			for align := range 9 {
				for _, piece := range []int{0, 1, 3, 5, 7} { // 0: whole
					memory := make([]byte, align+length+margin)
					for i := range memory {
						memory[i] = byte(i*37 + 11)
					}
					before := bytes.Clone(memory)
					p := memory[align : align+length]
					want := bytewise(key, p)
					k := keyOf(key)
					for rest := p; len(rest) > 0; {
						n := len(rest)
						if piece > 0 {
							n = min(n, piece)
						}
						k = mask(k, rest[:n])
						rest = rest[n:]
					}
					name := fmt.Sprintf("key %x, %d bytes at %d in pieces of %d", key, length, align, piece)
					if !bytes.Equal(p, want) {
						t.Fatalf("%s: %x, want %x", name, p, want)
					}
					if !bytes.Equal(memory[:align], before[:align]) || !bytes.Equal(memory[align+length:], before[align+length:]) {
						t.Fatalf("%s: touches what is beside it", name)
					}
					rotated := [4]byte{key[length%4], key[(length+1)%4], key[(length+2)%4], key[(length+3)%4]}
					if k != keyOf(rotated) {
						t.Fatalf("%s: the next key is %08x, want %08x", name, k, keyOf(rotated))
					}
				}
			}
		}
	}
}

func TestM02Cuts(t *testing.T) {
	// Every cut in two, across the borders of the word-wise loops.
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	for _, length := range []int{63, 64, 65, 127, 128, 129, 200} {
		p := make([]byte, length)
		for i := range p {
			p[i] = byte(i)
		}
		want := bytewise(key, p)
		for cut := range length + 1 {
			got := bytes.Clone(p)
			mask(mask(keyOf(key), got[:cut]), got[cut:])
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes cut at %d: %x, want %x", length, cut, got, want)
			}
		}
	}
}

func TestM02Examples(t *testing.T) {
	tests := []struct{ id, key, masked, want string }{
		{"M-02", "37fa213d", "7f9f4d5158", "Hello"},
		{"M-02", "01020304", "6d6d", "lo"},
		{"M-03", "ffffffff", "b79a939390", "Hello"},
		{"M-03", "00000000", "48656c6c6f", "Hello"},
	}
	for _, tt := range tests {
		p := wire(t, tt.masked)
		mask(keyOf([4]byte(wire(t, tt.key))), p)
		if string(p) != tt.want {
			t.Errorf("%s: key %s, %s: %q, want %q", tt.id, tt.key, tt.masked, p, tt.want)
		}
	}
}

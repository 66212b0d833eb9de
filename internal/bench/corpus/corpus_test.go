package corpus

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/deflate"
)

var sizes = []int{1, 256, 1 << 10, 16 << 10, 64 << 10}

func TestMessages(t *testing.T) {
	for _, size := range sizes {
		messages := Messages(size)
		seen := make(map[string]bool)
		for _, p := range messages {
			if len(p) != size || !utf8.Valid(p) {
				t.Fatalf("%d bytes for %d: %q", len(p), size, p)
			}
			seen[string(p)] = true
		}
		if size > 1 && len(seen) != len(messages) {
			t.Errorf("%d bytes: of %d messages %d are different", size, len(messages), len(seen))
		}
		if len(messages)*size < reach {
			t.Errorf("%d messages of %d bytes come again too soon", len(messages), size)
		}
	}
}

// What Pack makes can be read with the window that it is for, and each message
// without those before it.
func TestPack(t *testing.T) {
	for _, size := range sizes {
		messages := Messages(size)
		packed, err := Pack(messages)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range packed {
			var d deflate.Decoder
			d.Init(WindowBits, false)
			got, err := d.Append(nil, p, size)
			if err == nil {
				err = d.End()
			}
			if err != nil || !bytes.Equal(got, messages[i]) {
				t.Fatalf("%d bytes, message %d: %v, or other bytes", size, i, err)
			}
			d.Release()
		}
	}
	// The check above would see references that go further.
	long := bytes.Repeat(Messages(6 << 10)[0], 2)
	var e deflate.Encoder
	e.Init(WindowBits+1, false, deflate.Better)
	p, ok := e.Append(nil, long)
	var d deflate.Decoder
	d.Init(WindowBits, false)
	if _, err := d.Append(nil, p, len(long)); !ok || err == nil {
		t.Error("references of more than the window are not noticed")
	}
}

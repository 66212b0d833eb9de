package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// unhex reads bytes written as in the wire contract.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func newEncoder(bits int, takeover bool, level Level) *Encoder {
	e := new(Encoder)
	e.Init(bits, takeover, level)
	return e
}

func newDecoder(bits int, takeover bool) *Decoder {
	d := new(Decoder)
	d.Init(bits, takeover)
	return d
}

// inflate reads a whole message.
func (d *Decoder) inflate(p []byte) ([]byte, error) {
	out, err := d.Append(nil, p, math.MaxInt)
	if err == nil {
		err = d.End()
	}
	return out, err
}

// always is Append for messages that do not get shorter, too.
func (e *Encoder) always(p []byte) []byte {
	if out, ok := e.Append(nil, p); ok {
		return out
	}
	return e.Finish(e.Write(nil, p))
}

func wantMessage(t *testing.T, d *Decoder, compressed, want []byte) {
	t.Helper()
	got, err := d.inflate(compressed)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%.40x: %d bytes %.40q, %v; want %d bytes %.40q", compressed, len(got), got, err, len(want), want)
	}
}

// A standard decodes messages with compress/flate.
type standard struct{ window []byte }

// message returns what p decompresses to, and whether that is the whole message.
// A block that is the last one ends what compress/flate reads; what follows is
// given to it anew.
func (s *standard) message(p []byte, takeover bool) ([]byte, error) {
	if !takeover {
		s.window = nil
	}
	in := bytes.NewReader(append(bytes.Clone(p), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff))
	var out []byte
	for in.Len() > 0 {
		r := flate.NewReaderDict(in, s.window)
		b, err := io.ReadAll(r)
		out = append(out, b...)
		s.window = append(s.window, b...)
		s.window = s.window[max(0, len(s.window)-1<<15):]
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// jsonLike makes messages as they are sent by applications, of n bytes.
func jsonLike(rng *rand.Rand, n int) []byte {
	var b bytes.Buffer
	words := strings.Fields("price order market alice bob carol trade volume depth status open closed pending update delta snapshot the quick brown fox user joined left room message typing")
	for b.Len() < n {
		w := func() string { return words[rng.IntN(len(words))] }
		fmt.Fprintf(&b, `{"type":"%s","id":%d,"user":{"name":"%s","score":%.2f},"tags":["%s","%s"],"text":"%s %s %s","ts":1700%09d},`,
			w(), rng.IntN(1e6), w(), rng.Float64()*1000, w(), w(), w(), w(), w(), rng.IntN(1e9))
	}
	return b.Bytes()[:n]
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

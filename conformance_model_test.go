package websocket_test

import (
	"bytes"
	"encoding/binary"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// The limit of the servers that are compared with the model: low, so that
// drawn input meets it.
const modelLimit = 1 << 10

// TestModelAgrees compares the library with the second reading of the rules
// on drawn conversations (S-04).
func TestModelAgrees(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		b, runs := modelBench(t)
		defer b.stop()
		for i := range n {
			in := drawConversation(rng)
			if !agrees(b, runs, in, 1+rng.IntN(1<<10)) {
				t.Fatalf("seed %#x, conversation %d: %x", seed, i, in)
			}
		}
	})
}

// FuzzModel does so with whatever a fuzzer finds.
func FuzzModel(f *testing.F) {
	for _, row := range conformance.Rows() {
		if row.Handler == conformance.Echo && row.Options == (conformance.Options{}) && len(row.Trace) < 200 && !strings.Contains(row.Trace, "rep(") {
			var in []byte
			for _, step := range row.Steps() {
				if step.Kind == conformance.Send {
					in = append(in, step.Bytes...)
				}
			}
			f.Add(in, uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint16) {
		if len(in) > 32<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b, runs := modelBench(t)
			defer b.stop()
			agrees(b, runs, in, 1+int(piece)%(1<<10))
		})
	})
}

func modelBench(t *testing.T) (*bench, <-chan *run) {
	runs := make(chan *run, 1)
	row := conformance.Row{Options: conformance.Options{ReadLimit: modelLimit}}
	return inMemory(t, upgrader(row, readings[0], runs)), runs
}

// agrees plays in, in pieces of so many bytes, then the end of the stream,
// and says whether what comes back and what the application sees are what the
// model says.
func agrees(b *bench, runs <-chan *run, in []byte, piece int) bool {
	b.t.Helper()
	model := conformance.Model{ReadLimit: modelLimit}
	v := model.Judge(in)
	switch {
	case v.InHeader:
		// How much of an illegal header is needed to see that it is
		// illegal is bounded by the contract, but not exact.
		in = in[:v.Taken]
	case v.End == conformance.Fail:
		in = append(bytes.Clone(in), 0, 0, 0, 0)
	}
	p := b.peer("the library and the model of its rules agree")
	p.WritePieces(slices.Collect(slices.Chunk(in, piece))...)
	p.Fin()
	frames, err := p.Rest()
	if err != io.EOF {
		p.Errorf("the stream ended with %v", err)
	}
	var got []byte
	for _, f := range frames {
		if f.Op == 8 && v.End == conformance.Fail && len(f.Payload) > 2 {
			f.Payload = f.Payload[:2] // the text is free
		}
		got = f.Append(got)
	}
	if !bytes.Equal(got, v.Out) {
		p.Errorf("received %x, the model sends %x", got, v.Out)
	}
	p.Close()
	synctest.Wait()
	select {
	case r := <-runs:
		rec := r.record(p, closedTimer())
		want := conformance.Record{Messages: v.Messages, Code: v.Code, Reason: v.Reason, Remote: v.End != conformance.Fail}
		if v.End == conformance.Open {
			want.Code = 1006
		}
		if v.End == conformance.Fail {
			rec.Reason = ""
		}
		if !slices.Equal(rec.Messages, want.Messages) || rec.Code != want.Code || rec.Reason != want.Reason || rec.Remote != want.Remote {
			p.Errorf("the application saw %v, the model %v", rec, want)
		}
	default:
		p.Errorf("the handler has not returned")
	}
	return !p.Failed()
}

// drawConversation is a sequence of frames of which most are legal.
func drawConversation(rng *mathrand.Rand) (in []byte) {
	texts := []string{"", "a", "hello", "κόσμε", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xe2\x82", "\xac", "\xff", "\xed\xa0\x80"}
	inMessage := false
	for range 1 + rng.IntN(8) {
		var payload []byte
		for range rng.IntN(4) {
			payload = append(payload, texts[rng.IntN(7+rng.IntN(len(texts)-6))]...)
		}
		if rng.IntN(8) == 0 {
			payload = bytes.Repeat([]byte("x"), []int{125, 126, 127, 500, 1023, 1024, 1025, 70000}[rng.IntN(8)])
		}
		b0 := []byte{0x81, 0x82, 0x01, 0x02}[rng.IntN(4)]
		if inMessage {
			b0 = []byte{0x80, 0x00}[rng.IntN(2)]
		}
		switch rng.IntN(6) {
		case 0:
			b0, payload = 0x89, payload[:min(len(payload), 125)]
		case 1:
			b0, payload = 0x8a, payload[:min(len(payload), 125)]
		case 2:
			if rng.IntN(3) == 0 {
				codes := []uint16{1000, 1001, 1005, 999, 3000, 4999, 5000, 1014, 1016}
				payload = append(binary.BigEndian.AppendUint16(nil, codes[rng.IntN(len(codes))]), payload[:min(len(payload), 123)]...)
				b0, payload = 0x88, payload[:rng.IntN(len(payload)+1)]
			}
		}
		if b0 < 0x88 {
			inMessage = b0&0x80 == 0
		}
		var key [4]byte
		binary.BigEndian.PutUint32(key[:], rng.Uint32())
		frame := conformance.MaskedFrame(b0, key, payload)
		if rng.IntN(20) == 0 {
			frame[rng.IntN(min(len(frame), 4))] ^= 1 << rng.IntN(8)
		}
		in = append(in, frame...)
	}
	if rng.IntN(4) == 0 {
		in = in[:rng.IntN(len(in)+1)]
	}
	return in
}

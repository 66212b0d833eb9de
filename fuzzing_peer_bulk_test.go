package websocket_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// bulk is a case of the groups 9, 10, 12 and 13: messages that are echoed one
// after the other.
type bulk struct {
	text   bool
	kind   string // of data
	size   int    // of a message
	count  int    // of messages
	frame  int    // the bytes of payload in a frame; 0: all
	piece  int    // the bytes in a write; 0: all
	wishes []wish // nil: without compression
	able   string // what a client says besides that it can do itself
}

// A wish is what the peer asks of what it will receive.
type wish struct {
	alone bool // each message by itself
	bits  int  // the window; 0: any
}

// field is the wish in an offer, or in the answer, of which side is to fulfil it.
func (w wish) field(side string) string {
	s := "permessage-deflate"
	if w.alone {
		s += "; " + side + "_no_context_takeover"
	}
	if w.bits > 0 {
		s += fmt.Sprintf("; %s_max_window_bits=%d", side, w.bits)
	}
	return s
}

// offer is the field with which a client asks for compression.
func (c *bulk) offer() string {
	var offers []string
	for _, w := range c.wishes {
		offers = append(offers, w.field("server")+c.able)
	}
	return strings.Join(offers, ", ")
}

func bulkCases() (cases []peerCase) {
	add := func(prefix string, bulks ...bulk) {
		for i := range bulks {
			cases = append(cases, peerCase{id: fmt.Sprint(prefix, i+1), bulk: &bulks[i]})
		}
	}
	// Text has an odd number in group 9, binary the even one behind it.
	both := func(number int, each func(n int) bulk, ns ...int) {
		var text, binary []bulk
		for _, n := range ns {
			b := each(n)
			b.count = max(b.count, 1)
			b.kind = "bitmap"
			binary = append(binary, b)
			b.text, b.kind = true, "stars"
			text = append(text, b)
		}
		add(fmt.Sprintf("9.%d.", number), text...)
		add(fmt.Sprintf("9.%d.", number+1), binary...)
	}
	const k, m = 1 << 10, 1 << 20
	both(1, func(n int) bulk { return bulk{size: n} }, 64*k, 256*k, m, 4*m, 8*m, 16*m)
	both(3, func(n int) bulk { return bulk{size: 4 * m, frame: n} }, 64, 256, k, 4*k, 16*k, 64*k, 256*k, m, 4*m)
	both(5, func(n int) bulk { return bulk{size: m, piece: n} }, 64, 128, 256, 512, k, 2*k)
	both(7, func(n int) bulk { return bulk{size: n, count: 1000} }, 0, 16, 64, 256, k, 4*k)
	add("10.1.", bulk{text: true, kind: "stars", size: 64 * k, count: 1, frame: 1300})

	squeezed := func(prefix, kind, able string, wishes ...wish) {
		var bulks []bulk
		for _, s := range []struct{ size, frame int }{
			{16, 0}, {64, 0}, {256, 0}, {k, 0}, {4 * k, 0}, {8 * k, 0}, {16 * k, 0}, {32 * k, 0}, {64 * k, 0}, {128 * k, 0},
			{8 * k, 256}, {16 * k, 256}, {32 * k, 256}, {64 * k, 256}, {128 * k, 256}, {128 * k, k}, {128 * k, 4 * k}, {128 * k, 32 * k},
		} {
			bulks = append(bulks, bulk{text: kind == "JSON" || kind == "HTML", kind: kind, count: 1000,
				size: s.size, frame: s.frame, wishes: wishes, able: able})
		}
		add(prefix, bulks...)
	}
	// As a client the peer keeps no context in group 12, and does in group 13.
	const limits, leaves = "; client_max_window_bits", "; client_no_context_takeover"
	for i, kind := range []string{"JSON", "bitmap", "German", "HTML", "PDF"} {
		squeezed(fmt.Sprintf("12.%d.", i+1), kind, leaves+limits, wish{})
	}
	for i, wishes := range [][]wish{
		{{}}, {{alone: true}}, {{bits: 9}}, {{bits: 15}}, {{true, 9}}, {{true, 15}}, {{true, 9}, {alone: true}, {}},
	} {
		squeezed(fmt.Sprintf("13.%d.", i+1), "JSON", limits, wishes...)
	}
	return cases
}

// A peerScale is how much of a case is played.
type peerScale struct {
	count  int  // at most so many messages
	volume int  // and no more than two if that is more than so many bytes
	part   int  // of what is sent in one message, in group 9
	level  int  // of the peer's compression
	once   bool // each case in one of the roles and readings only
}

func scaleOf(client bool) peerScale {
	switch {
	case *peerFull:
		return peerScale{count: 1000, volume: 1 << 30, part: 1, level: flate.DefaultCompression}
	case testing.Short(), underRace():
		return peerScale{count: 10, volume: 16 << 10, part: 16, level: flate.BestSpeed, once: true}
	case client:
		return peerScale{count: 10, volume: 16 << 10, part: 16, level: flate.BestSpeed}
	}
	return peerScale{count: 30, volume: 64 << 10, part: 1, level: flate.BestSpeed}
}

// play sends messages and compares what comes back.
func (c *bulk) play(w *wire, scale peerScale) error {
	size, count := c.size, min(c.count, scale.count)
	if c.count == 1 && size >= 1<<20 {
		size /= scale.part
	} else if size > 0 {
		count = min(count, max(2, scale.volume/size))
	}
	data, at := peerData()[c.kind], 0
	op := byte(2)
	if c.text {
		op = 1
	}
	for i := range count {
		for w.message = slices.Grow(w.message[:0], size); len(w.message) < size; at %= len(data) {
			n := min(size-len(w.message), len(data)-at)
			w.message = append(w.message, data[at:at+n]...)
			at += n
		}
		err := w.send(op, w.message, c.frame, c.piece)
		if err == nil {
			err = w.want(op, w.message)
		}
		if err != nil {
			return fmt.Errorf("message %d of %d bytes: %w", i+1, size, err)
		}
	}
	// All that is so large becomes shorter, but for what was compressed already.
	if c.wishes != nil && c.size >= 256 && c.kind != "PDF" && w.compressed != count {
		return fmt.Errorf("%d of %d messages have come compressed", w.compressed, count)
	}
	return nil
}

// peerData is what is sent, by its kind, always the same.
var peerData = sync.OnceValue(func() map[string][]byte {
	data := map[string][]byte{"stars": bytes.Repeat([]byte("*"), 4<<10)}
	for kind, generate := range map[string]func(*rand.Rand) []byte{
		"JSON": jsonLike, "bitmap": bitmapLike, "German": germanLike, "HTML": htmlLike, "PDF": pdfLike,
	} {
		data[kind] = generate(rand.New(rand.NewPCG(12, 13)))
	}
	return data
})

const peerDataSize = 200 << 10

func pick(rng *rand.Rand, words string) string {
	all := strings.Fields(words)
	return all[rng.IntN(len(all))]
}

func jsonLike(rng *rand.Rand) []byte {
	b := []byte("[")
	for id := 1; len(b) < peerDataSize; id++ {
		b = fmt.Appendf(b, `{"id": %d, "boat": "%s-%02d", "catch": [`, id, pick(rng, "heron tern gannet petrel"), rng.IntN(40))
		for range 1 + rng.IntN(5) {
			b = fmt.Appendf(b, `{"kind": "%s", "weight": %.2f, "alive": %v}, `, pick(rng, "sockeye coho pink chum chinook"), 9*rng.Float64(), rng.IntN(2) == 0)
		}
		b = fmt.Appendf(b, `null], "where": {"lat": %.5f, "lon": %.5f}},`+"\n", 48+10*rng.Float64(), -120-10*rng.Float64())
	}
	return append(b, "{}]"...)
}

func bitmapLike(rng *rand.Rand) []byte {
	const width = 512
	b := append([]byte("BM"), make([]byte, 52)...)
	for y := 0; len(b) < peerDataSize; y++ {
		for x := range width {
			shade := byte((x*x/300+y*y/200)/16) * 3
			if rng.IntN(8) == 0 {
				shade++
			}
			b = append(b, shade)
		}
	}
	return b
}

func germanLike(rng *rand.Rand) []byte {
	const words = "der die das Lachs Fluß über schwimmt zurück Quelle Wehr Müller steht früh auf und hört Wasser rauschen " +
		"wenn Nebel fällt sieht er keine Brücke mehr aber Möwen schreien laut größer als je zuvor niemand weiß warum"
	var b []byte
	for len(b) < peerDataSize {
		for range 5 + rng.IntN(9) {
			b = append(append(b, pick(rng, words)...), ' ')
		}
		b = append(b[:len(b)-1], pick(rng, ". , ! ? ; -")...)
		b = append(b, '\n')
	}
	return b
}

func htmlLike(rng *rand.Rand) []byte {
	b := []byte("<!DOCTYPE html>\n<html><head><title>Tides</title></head><body>\n<table class=\"tides\">\n")
	for row := 0; len(b) < peerDataSize; row++ {
		b = fmt.Appendf(b, "<tr id=\"r%d\" class=\"%s\"><td><a href=\"/harbour/%s?day=%d\">%s &middot; %02d:%02d</a></td>"+
			"<td class=\"height\">%.1f&nbsp;m</td></tr>\n", row, pick(rng, "odd even"), pick(rng, "north south west"),
			rng.IntN(365), pick(rng, "high low slack"), rng.IntN(24), rng.IntN(60), 6*rng.Float64())
	}
	return append(b, "</table></body></html>\n"...)
}

func pdfLike(rng *rand.Rand) []byte {
	b := []byte("%PDF-1.4\n")
	for id := 1; len(b) < peerDataSize; id++ {
		var stream bytes.Buffer
		z := zlib.NewWriter(&stream)
		for range 300 {
			fmt.Fprintf(z, "BT /F1 %d Tf %d %d Td (%s) Tj ET\n", 8+rng.IntN(8), rng.IntN(600), rng.IntN(800), pick(rng, "net rope buoy keel mast"))
		}
		z.Close()
		b = fmt.Appendf(b, "%d 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream\nendobj\n", id, stream.Len(), stream.Bytes())
	}
	return append(b, "%%EOF\n"...)
}

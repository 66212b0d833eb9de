// Package corpus makes texts as applications send them, and compresses them as
// their clients do.
package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/flate"
)

// reach is how much text there is, at least, before any of it comes again:
// far more than a window of 32 KiB, so that none can have seen it.
const reach = 256 << 10

// Messages are different messages of one size, the same in every run: an array
// of records each, cut off where the size is reached.
func Messages(size int) [][]byte {
	rng := rand.New(rand.NewPCG(uint64(size), 7692))
	messages := make([][]byte, max(8, reach/max(size, 1)))
	for i := range messages {
		var b bytes.Buffer
		b.WriteByte('[')
		for b.Len() < size {
			record(&b, rng)
		}
		messages[i] = b.Bytes()[:size:size]
	}
	return messages
}

var (
	symbols = strings.Fields("AAPL MSFT GOOG AMZN TSLA NVDA META NFLX INTC AMD ORCL IBM SAP ASML ADBE CRM")
	names   = strings.Fields("alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy rupert sybil trent victor walter wendy")
	words   = strings.Fields("the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has look two more write go see number no way could people my than first water been call who oil its now find long down day did get come made may part meet tomorrow after lunch deploy server build failed again please review thanks later")
)

// record appends one of three kinds: a trade, a line of a chat, or a measurement.
func record(b *bytes.Buffer, rng *rand.Rand) {
	switch rng.IntN(3) {
	case 0:
		fmt.Fprintf(b, `{"type":"trade","symbol":"%s","side":"%s","price":%.2f,"size":%d,"id":%d,"ts":17%011d},`,
			pick(rng, symbols), []string{"buy", "sell"}[rng.IntN(2)], 10+rng.Float64()*900, 1+rng.IntN(5000), rng.IntN(1e9), rng.IntN(1e11))
	case 1:
		fmt.Fprintf(b, `{"type":"message","room":"%s-%d","user":{"id":%d,"name":"%s"},"text":"`, pick(rng, words), rng.IntN(100), rng.IntN(1e6), pick(rng, names))
		for i := range 3 + rng.IntN(12) {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(pick(rng, words))
		}
		fmt.Fprintf(b, `","edited":%t,"ts":17%011d},`, rng.IntN(8) == 0, rng.IntN(1e11))
	default:
		fmt.Fprintf(b, `{"type":"status","host":"node-%03d","uuid":"%08x-%04x","cpu":%.3f,"memory":%d,"up":%t,"tags":["%s","%s"]},`,
			rng.IntN(500), rng.Uint32(), rng.IntN(1<<16), rng.Float64(), rng.IntN(1<<34), rng.IntN(50) > 0, pick(rng, words), pick(rng, words))
	}
}

func pick(rng *rand.Rand, from []string) string { return from[rng.IntN(len(from))] }

// WindowBits is how far Pack refers back: 2^WindowBits bytes, which is as far as
// the servers permit at their defaults that permit the least.
const WindowBits = 12

// Pack compresses messages, each by itself, as a client sends them whose settings
// are like those of browsers: it looks longer than the fastest. The last four
// bytes are left off (RFC 7692 §7.2.1).
func Pack(messages [][]byte) ([][]byte, error) {
	packed := make([][]byte, len(messages))
	var b bytes.Buffer
	w, err := flate.NewWriterWindow(&b, 1<<WindowBits)
	if err != nil {
		return nil, err
	}
	for i, p := range messages {
		b.Reset()
		w.Reset(&b)
		if _, err := w.Write(p); err != nil {
			return nil, err
		}
		if err := w.Flush(); err != nil {
			return nil, err
		}
		packed[i] = bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff")))
	}
	return packed, nil
}

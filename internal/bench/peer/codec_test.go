package peer

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"runtime"
	"testing"

	kflate "github.com/klauspost/compress/flate"

	"github.com/sockeye-ws/websocket/internal/bench/corpus"
	"github.com/sockeye-ws/websocket/internal/deflate"
)

// What follows measures the libraries' codecs alone: the library's own, that of
// the standard library, which gorilla, coder, gobwas and nbio use, and
// klauspost/compress, which gws and fasthttp use.

var codecSizes = []int{256, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10}

// kinds are without and with context takeover.
var kinds = map[bool]string{false: "alone", true: "takeover"}

// A deflater is a flate.Writer of either kind.
type deflater interface {
	io.Writer
	Flush() error
	Reset(io.Writer)
}

// packers are what compresses one message after the other, in windows of 32 KiB.
func packers(takeover bool) map[string]func(dst, p []byte) []byte {
	own := func(level deflate.Level) func(dst, p []byte) []byte {
		e := new(deflate.Encoder)
		e.Init(deflate.MaxBits, takeover, level)
		return func(dst, p []byte) []byte {
			out, ok := e.Append(dst, p)
			if !ok {
				return append(dst, p...)
			}
			return out
		}
	}
	writer := func(w deflater) func(dst, p []byte) []byte {
		var buf bytes.Buffer
		w.Reset(&buf)
		return func(dst, p []byte) []byte {
			buf.Reset()
			if !takeover {
				w.Reset(&buf)
			}
			_, _ = w.Write(p)
			_ = w.Flush()
			return append(dst, buf.Bytes()[:buf.Len()-4]...)
		}
	}
	std, _ := flate.NewWriter(nil, flate.BestSpeed)
	klauspost, _ := kflate.NewWriter(nil, kflate.BestSpeed)
	return map[string]func(dst, p []byte) []byte{
		"sockeye": own(deflate.Fast), "sockeye-better": own(deflate.Better), "flate1": writer(std), "klauspost1": writer(klauspost),
	}
}

// warmups make tables and buffers grow.
const warmups = 3

// timed runs op in a loop, and also reports megabytes for each second of CPU time,
// which is steadier than the clock where other work is done.
func timed(b *testing.B, size int, op func(n int)) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	b.SetBytes(int64(size))
	n := 0
	for ; n < warmups; n++ {
		op(n)
	}
	begin := threadTime()
	for b.Loop() {
		op(n)
		n++
	}
	if used := threadTime() - begin; used > 0 {
		b.ReportMetric(float64((n-warmups)*size)/1e6/used.Seconds(), "MB/cpu-s")
	}
	return n - warmups
}

// BenchmarkDeflate compresses. ratio is what comes out for each byte.
func BenchmarkDeflate(b *testing.B) {
	for _, takeover := range []bool{false, true} {
		for _, size := range codecSizes {
			messages := corpus.Messages(size)
			for _, name := range []string{"sockeye", "sockeye-better", "flate1", "klauspost1"} {
				b.Run(fmt.Sprintf("%s/%d/%s", kinds[takeover], size, name), func(b *testing.B) {
					pack := packers(takeover)[name]
					dst := make([]byte, 0, 2*size+64)
					out := 0
					n := timed(b, size, func(n int) {
						if size := len(pack(dst, messages[n%len(messages)])); n >= warmups {
							out += size
						}
					})
					b.ReportMetric(float64(out)/float64(n*size), "ratio")
				})
			}
		}
	}
}

const codecTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// unpackers are what decompresses. With takeover the standard library's way is to
// hand the window to a reader for each message.
func unpackers(takeover bool) map[string]func(dst, p []byte) ([]byte, error) {
	d := new(deflate.Decoder)
	d.Init(deflate.MaxBits, takeover)
	reader := func(r io.Reader) func(dst, p []byte) ([]byte, error) {
		var in []byte
		var window []byte
		src := new(bytes.Reader)
		return func(dst, p []byte) ([]byte, error) {
			in = append(append(in[:0], p...), codecTail...)
			src.Reset(in)
			if err := r.(flate.Resetter).Reset(src, window); err != nil {
				return nil, err
			}
			out, err := readAll(r, dst)
			if takeover {
				window = append(window, out...)
				if len(window) > 64<<10 {
					window = window[:copy(window, window[len(window)-32<<10:])]
				}
			}
			return out, err
		}
	}
	return map[string]func(dst, p []byte) ([]byte, error){
		"sockeye": func(dst, p []byte) ([]byte, error) {
			out, err := d.Append(dst, p, readLimit)
			if err == nil {
				err = d.End()
			}
			return out, err
		},
		"flate":     reader(flate.NewReader(nil)),
		"klauspost": reader(kflate.NewReader(nil)),
	}
}

// BenchmarkInflate decompresses what the load generator sends.
func BenchmarkInflate(b *testing.B) {
	for _, takeover := range []bool{false, true} {
		for _, size := range codecSizes {
			packed, err := corpus.Pack(corpus.Messages(size))
			if err != nil {
				b.Fatal(err)
			}
			for _, name := range []string{"sockeye", "flate", "klauspost"} {
				b.Run(fmt.Sprintf("%s/%d/%s", kinds[takeover], size, name), func(b *testing.B) {
					unpack := unpackers(takeover)[name]
					dst := make([]byte, 0, size+bytes.MinRead)
					timed(b, size, func(n int) {
						out, err := unpack(dst, packed[n%len(packed)])
						if err != nil || len(out) != size {
							b.Fatalf("%d bytes, %v", len(out), err)
						}
					})
				})
			}
		}
	}
}

// TestCodecs has each decompress what each has compressed, so that the benchmarks
// compare the same work.
func TestCodecs(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		messages := corpus.Messages(1 << 10)[:100]
		for from, pack := range packers(takeover) {
			for to, unpack := range unpackers(takeover) {
				// Once more, for a window of its own.
				pack = packers(takeover)[from]
				for i, p := range messages {
					packed := pack(nil, p)
					if len(packed) == len(p) {
						t.Fatalf("%s leaves message %d as it is", from, i)
					}
					got, err := unpack(nil, packed)
					if err != nil || !bytes.Equal(got, p) {
						t.Fatalf("takeover %v, from %s to %s, message %d: %v, or other bytes", takeover, from, to, i, err)
					}
				}
			}
		}
	}
}

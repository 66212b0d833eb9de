package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math"
	"testing"
)

var sizes = []int{64, 256, 1 << 10, 8 << 10, 64 << 10}

// benchMessages are different messages of one size, enough of them to fill a
// window.
func benchMessages(size int) [][]byte {
	rng := newRand(uint64(size))
	messages := make([][]byte, max(8, 64<<10/size))
	for i := range messages {
		messages[i] = jsonLike(rng, size)
	}
	return messages
}

// BenchmarkEncode compresses messages with and without context takeover. ratio is
// what comes out for each byte.
func BenchmarkEncode(b *testing.B) {
	for _, size := range sizes {
		messages := benchMessages(size)
		run := func(name string, encode func(p []byte) int) {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				out, n := 0, 0
				for b.Loop() {
					out += encode(messages[n%len(messages)])
					n++
				}
				b.ReportMetric(float64(out)/float64(n*size), "ratio")
			})
		}
		dst := make([]byte, 0, size+Slack)
		for _, takeover := range []bool{true, false} {
			for _, level := range []Level{Fast, Better} {
				e := newEncoder(15, takeover, level)
				run(fmt.Sprintf("takeover=%v/level%d", takeover, level), func(p []byte) int {
					out, ok := e.Append(dst, p)
					if !ok {
						return len(p)
					}
					return len(out)
				})
			}
			var buf bytes.Buffer
			buf.Grow(2 * size)
			w, _ := flate.NewWriter(&buf, 1)
			run(fmt.Sprintf("takeover=%v/flate1", takeover), func(p []byte) int {
				buf.Reset()
				if !takeover {
					w.Reset(&buf)
				}
				w.Write(p)
				w.Flush()
				return buf.Len() - 4
			})
		}
	}
}

// BenchmarkDecode decompresses what Append at level Fast has made.
func BenchmarkDecode(b *testing.B) {
	for _, size := range sizes {
		for _, takeover := range []bool{true, false} {
			messages := benchMessages(size)
			e := newEncoder(15, takeover, Fast)
			for i, p := range messages {
				messages[i] = e.always(p)
			}
			run := func(name string, decode func(p []byte, first bool) int) {
				b.Run(fmt.Sprintf("%d/takeover=%v/%s", size, takeover, name), func(b *testing.B) {
					b.ReportAllocs()
					b.SetBytes(int64(size))
					n := 0
					for b.Loop() {
						i := n % len(messages)
						if got := decode(messages[i], i == 0); got != size {
							b.Fatal(got)
						}
						n++
					}
				})
			}
			dst := make([]byte, 0, size)
			d := newDecoder(15, takeover)
			run("own", func(p []byte, first bool) int {
				out, err := d.Append(dst, p, math.MaxInt)
				if err == nil {
					err = d.End()
				}
				if err != nil {
					b.Fatal(err)
				}
				return len(out)
			})
			r := flate.NewReader(nil)
			var tail = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}
			var window []byte
			in, end := new(bytes.Reader), new(bytes.Reader)
			run("flate", func(p []byte, first bool) int {
				if first || !takeover {
					window = window[:0]
				}
				in.Reset(p)
				end.Reset(tail)
				r.(flate.Resetter).Reset(&joined{in, end}, window)
				out := dst[:0]
				for {
					n, err := r.Read(out[len(out):cap(out)])
					out = out[:len(out)+n]
					if err == io.EOF || len(out) == cap(out) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				if takeover {
					window = append(window, out...)
					if len(window) > 64<<10 {
						window = window[:copy(window, window[len(window)-32<<10:])]
					}
				}
				return len(out)
			})
		}
	}
}

// joined is an io.MultiReader that compress/flate can read by bytes.
type joined struct{ a, b *bytes.Reader }

func (j *joined) ReadByte() (byte, error) {
	if j.a.Len() > 0 {
		return j.a.ReadByte()
	}
	return j.b.ReadByte()
}

func (j *joined) Read(p []byte) (int, error) {
	if j.a.Len() > 0 {
		return j.a.Read(p)
	}
	return j.b.Read(p)
}

package deflate

import (
	"bytes"
	"testing"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// FuzzEncode sends any data as any messages, in one call, in pieces, made
// elsewhere or given up, and wants three decoders to read it, one of them without
// references further back than the window.
func FuzzEncode(f *testing.F) {
	rng := newRand(1)
	for bits := range byte(8) {
		for flags := range byte(4) {
			f.Add(jsonLike(rng, 900), flags<<6|bits, []byte{30, 0, 60, 3, 90, 3, 20, 4, 200, 5, 40, 6, 255, 0})
		}
	}
	f.Add(random(rng, 300), byte(0x80), []byte{100, 0, 0, 3, 0, 4, 255, 0})
	f.Add(make([]byte, 300), byte(0x8f), []byte{100, 0x10, 200, 0x13, 1, 4, 255, 0})
	f.Fuzz(func(t *testing.T, data []byte, setup byte, script []byte) {
		if len(data) > 4<<10 || len(script) > 64 {
			return
		}
		bits, takeover, level := MinBits+int(setup&7), setup&0x80 == 0, Level(setup>>6&1)
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		// A step of the script is how much, in 256ths of the data, and what
		// to do with it. Some messages are the data many times over.
		var c, sent []byte
		begun, total := false, 0
		for at := 0; len(script) >= 2; script = script[2:] {
			n := int(script[0]) * (len(data) + 255) / 256
			what := script[1]
			p := data[at:min(at+n, len(data))]
			at += len(p)
			if at == len(data) {
				at = 0
			}
			if what&0x10 != 0 {
				p = bytes.Repeat(p, 1+int(what>>5)*2)
			}
			if total += len(p); total > 100<<10 {
				break
			}
			if what&7 >= 3 && what&7 <= 4 {
				c = e.Write(c, p)
				sent, begun = append(sent, p...), true
				if what&7 == 4 {
					w.want(t, e.Finish(c), sent)
					c, sent, begun = nil, nil, false
				}
				continue
			}
			if begun {
				if what&8 != 0 {
					e.Abandon()
				} else {
					w.want(t, e.Finish(c), sent)
				}
				c, sent, begun = nil, nil, false
			}
			switch what & 7 {
			case 5:
				if c, ok := Alone(nil, p, bits, level); ok {
					newWitness(bits, false).want(t, c, p)
					e.Enter(p)
					w.want(t, c, p)
				}
			case 6:
				e.Abandon()
			case 7:
				e.Reset()
			default:
				if c, ok := e.Append(nil, p); ok {
					if len(c) >= len(p) {
						t.Fatalf("%d bytes become %d", len(p), len(c))
					}
					w.want(t, c, p)
				}
			}
		}
		w.want(t, e.Finish(c), sent)
	})
}

// FuzzDecode reads any bytes as messages, cut anyhow: the Decoder and the
// reference come to the same end, and so does compress/flate, but for what it
// does not know: windows of other sizes, and how a message ends.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"f248cdc9c90700", "f200110000", "000500faff48656c6c6f00", "f24805000000ffffcac9c90700", "f348cdc9c9070000",
		"f348cdc9c90700f248cdc9c90700", "00", "0200", "030000", "000100feffff00", "0600", "ffffffff",
		"000500000048656c6c6f00", "f248cdc9c907", "f248cdc9c907000000ffff", "00 0400fbff",
	} {
		f.Add(unhex(s), uint16(0x1f), []byte{1, 3})
		f.Add(append(unhex("f248cdc9c90700"), unhex(s)...), uint16(7<<5|0x10), []byte{2})
	}
	rng := newRand(2)
	for level := -2; level < 10; level += 3 {
		f.Add(deflated(level, jsonLike(rng, 300)), uint16(0x1f), []byte{50, 3, 7})
	}
	f.Fuzz(func(t *testing.T, data []byte, setup uint16, cuts []byte) {
		if len(data) > 2<<10 {
			return
		}
		// setup is the window, whether it is taken over, how much output is
		// taken at once, and where the second message begins.
		bits, takeover := MinBits+int(setup&7), setup&8 != 0
		most := 1 + int(setup>>4&1)*400
		split := min(int(setup>>5), len(data))
		own, whole := newDecoder(bits, takeover), newDecoder(bits, takeover)
		ref := conformance.Inflater{Bits: bits, Takeover: takeover}
		var std standard
		for _, p := range [][]byte{data[:split], data[split:]} {
			want, wantErr := ref.Message(p)
			if len(want) > 1<<18 {
				return
			}
			// Cut, then whole.
			var out []byte
			var err error
			rest := p
			for i := 0; len(rest) > 0 && err == nil; i++ {
				n := len(rest)
				if len(cuts) > 0 {
					n = min(n, int(cuts[i%len(cuts)])+1)
				}
				piece := rest[:n]
				rest = rest[n:]
				for {
					got, k, e := own.Next(piece, most)
					if len(got) > most {
						t.Fatalf("%d bytes of %d", len(got), most)
					}
					out, piece, err = append(out, got...), piece[k:], e
					if err != nil || len(got) == 0 {
						break
					}
				}
				if err == nil && len(piece) > 0 {
					t.Fatal("input is left, and no output comes")
				}
			}
			if err == nil {
				err = own.End()
			}
			all, allErr := whole.inflate(p)
			if !bytes.Equal(out, all) || err != allErr {
				t.Fatalf("cut: %d bytes, %v; whole: %d bytes, %v", len(out), err, len(all), allErr)
			}
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(out, want) {
				t.Fatalf("%d bytes, %v; the reference: %d bytes, %v", len(out), err, len(want), wantErr)
			}
			got, stdErr := std.message(p, takeover)
			switch {
			case err == nil && (stdErr != nil || !bytes.Equal(got, out)):
				t.Fatalf("%d bytes; compress/flate: %d bytes, %v", len(out), len(got), stdErr)
			case err != nil && stdErr == nil && err != errEnd && (err != errDistance || bits == MaxBits):
				t.Fatalf("%v; compress/flate: %d bytes", err, len(got))
			}
			if err != nil {
				return
			}
		}
	})
}

package conformance

import (
	"bytes"
	"compress/flate"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Deflate is how a row's messages may be compressed. The implementation compresses
// all that it can, with the options that are its defaults otherwise.
type Deflate string

const (
	NoDeflate    Deflate = ""
	Takeover     Deflate = "takeover"            // both ways
	PeerAlone    Deflate = "peer's stand alone"  // each message of the peer's
	OwnAlone     Deflate = "own stand alone"     // each message of the implementation's
	SmallWindows Deflate = "windows of 256 byte" // both ways
)

// Offer is the field with which the peer of a server has it so.
func (d Deflate) Offer() string {
	return map[Deflate]string{
		Takeover:     "permessage-deflate; client_max_window_bits",
		PeerAlone:    "permessage-deflate; client_no_context_takeover",
		OwnAlone:     "permessage-deflate; server_no_context_takeover; client_max_window_bits",
		SmallWindows: "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8",
	}[d]
}

// Answer is the field with which the peer of a client has it so.
func (d Deflate) Answer() string {
	return map[Deflate]string{
		Takeover:     "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
		PeerAlone:    "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
		OwnAlone:     "permessage-deflate; client_no_context_takeover",
		SmallWindows: "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8",
	}[d]
}

const (
	hello     = "f248cdc9c90700" // RFC 7692 §7.2.3.1
	helloRef  = "f200110000"     // §7.2.3.2: refers to the one before
	gotHello  = "81 05 48656c6c6f "
	helloOnce = "c1 87 z " + hello + " "
)

// deflateRows are those of section 12.
func deflateRows() (rows []Row) {
	add := func(more []Row) { rows = append(rows, with(Options{Deflate: Takeover}, more)...) }
	addWith := func(o Options, more []Row) {
		if o.Deflate == NoDeflate {
			o.Deflate = Takeover
		}
		rows = append(rows, with(o, more)...)
	}
	add(traces("D-01", "RSV1 on the first frame marks the whole message as compressed",
		"C> "+helloOnce+"S> "+gotHello+"OPEN",
		"C> c1 87 37fa213d c5b2ecf4fefd21 S> "+gotHello+"OPEN",
		"C> c2 87 z "+hello+" S> 82 05 48656c6c6f OPEN",
		"C> "+packed(0xc2, []byte("\x00\xff\x80"))+" S> 82 03 00ff80 OPEN"))
	add(traces("D-02", "without RSV1 the message is plain",
		"C> 81 85 z 48656c6c6f S> "+gotHello+"OPEN",
		"C> 01 82 z 4865 80 83 z 6c6c6f S> "+gotHello+"C> "+helloOnce+"S> "+gotHello+"OPEN",
		"C> 81 87 z 61616161616161 82 87 z "+hello+" S> 81 07 61616161616161 82 07 "+hello+" OPEN"))
	add(each("D-03", "RSV1 on a continuation fails the connection", fail2,
		"41 83 z f248cd c0 84 z c9c90700", "01 81 z 61 c0 81 z 62", "41 83 z f248cd 40 80 z", inText+"40 81 z 62", "c0 80 z", "41 83 z f248cd 00 80 z c0 80"))
	add(each("D-04", "RSV1 on a control frame fails the connection", fail2,
		"c9 80 z", "ca 80 z", "c8 80 z", "c8 82 z 03e8", "41 83 z f248cd c9 80 z", "c9 80"))
	add(each("D-05", "RSV2 and RSV3 stay illegal", fail2,
		"a1 80 z", "e1 81 z 00", "d1 81 z 00", "f2 81 z 00", "91 80 z", "41 83 z f248cd a0 80 z", "41 83 z f248cd 90 80 z", "61 80"))
	add(each("D-03", "the order of fragments is judged as ever", fail2,
		"41 83 z f248cd c1 87 z "+hello, "41 83 z f248cd 81 80 z", inText+"c1 87 z "+hello, inText+"c2 80"))

	between := "C> 41 83 z f248cd 89 80 z 80 84 z c9c90700 S> 8a 00 " + gotHello + "OPEN"
	add(traces("D-06", "compressed messages may be fragmented at any byte, with control frames between",
		between,
		"C> 41 83 z f248cd 89 81 z 31 S> 8a 01 31 C> 80 84 z c9c90700 S> "+gotHello+"OPEN",
		"C> 41 80 z 00 87 z "+hello+" 8a 80 z 00 80 z 80 80 z S> "+gotHello+"C> c1 85 z "+helloRef+" S> "+gotHello+"OPEN",
		"C> 41 83 37fa213d "+masked("f248cd")+" 80 84 37fa213d "+masked("c9c90700")+" S> "+gotHello+"OPEN"))
	var single strings.Builder
	for i := range len(hello) / 2 {
		fmt.Fprintf(&single, "%02x 81 z %s ", map[int]int{0: 0x41, 6: 0x80}[i], hello[2*i:2*i+2])
		if i > 0 && i < 6 {
			at := 2 * i
			add(traces("D-06", "a compressed message may be cut here",
				fmt.Sprintf("C> 41 8%d z %s 80 8%d z %s S> %sC> c1 85 z %s S> %sOPEN", i, hello[:at], 7-i, hello[at:], gotHello, helloRef, gotHello)))
		}
	}
	add(traces("D-06", "and into single bytes", "C> "+single.String()+"S> "+gotHello+"OPEN"))

	add(traces("D-07", "the window persists over messages",
		"C> "+helloOnce+"c1 85 z "+helloRef+" S> "+gotHello+gotHello+"OPEN",
		"C> "+helloOnce+"c1 85 z "+helloRef+" c1 85 z "+helloRef+" S> "+gotHello+gotHello+gotHello+"OPEN",
		"C> "+helloOnce+"89 80 z 41 82 z f200 80 83 z 110000 S> "+gotHello+"8a 00 "+gotHello+"OPEN"))
	add(traces("D-08", "plain messages do not enter the window",
		"C> "+helloOnce+"81 81 z 41 c1 85 z "+helloRef+" S> "+gotHello+"81 01 41 "+gotHello+"OPEN",
		"C> "+helloOnce+"01 81 z 41 80 81 z 42 c1 85 z "+helloRef+" S> "+gotHello+"81 02 4142 "+gotHello+"OPEN"))
	song := strings.Repeat("what was said once may be said again ", 40)
	add(traces("D-08", "nor do those that the implementation sends",
		"C> "+packed(0xc1, []byte(song))+" 81 81 z 41 "+packed(0xc1, []byte(song))+" S> "+plain(0x81, song)+" 81 01 41 "+plain(0x81, song)+" OPEN",
		"C> "+frameOf(0x81, 0x80, song)+" 82 82 z 00ff "+frameOf(0x81, 0x80, song)+" S> "+plain(0x81, song)+" 82 02 00ff "+plain(0x81, song)+" OPEN"))
	addWith(Options{Deflate: PeerAlone}, each("D-09", "with client_no_context_takeover a message cannot refer to the one before",
		"S> "+gotHello+"FAIL(1007)", helloOnce+"c1 85 z "+helloRef, helloOnce+"41 82 z f200 80 83 z 110000"))
	addWith(Options{Deflate: PeerAlone}, traces("D-09", "each message begins anew",
		"C> "+helloOnce+helloOnce+helloOnce+"S> "+gotHello+gotHello+gotHello+"OPEN"))

	for _, in := range []struct{ rule, in, out string }{
		{"a stored block", "c1 8b z 00 0500faff 48656c6c6f 00", gotHello},
		{"two stored blocks", "c1 90 z 00 0200fdff 4865 00 0300fcff 6c6c6f 00", gotHello},
		{"an empty block before the end", "c1 8c z f248cdc9c907000000ffff00", gotHello},
		{"two blocks", "c1 8d z f24805000000ffffcac9c90700", gotHello},
		{"a block with BFINAL", "c1 88 z f348cdc9c9070000", gotHello},
		{"a stored block with BFINAL", "c1 8b z 01 0500faff 48656c6c6f 00", gotHello},
	} {
		add(traces("D-10", in.rule+" is understood", "C> "+in.in+" S> "+in.out+"C> "+helloOnce+"S> "+gotHello+"OPEN"))
	}
	dynamic := []byte(strings.Repeat("aaaaabbbbcccdde", 20) + "ffeeddccbbaa")
	add(traces("D-10", "blocks with codes of their own are understood",
		"C> "+packedAt(0xc2, dynamic, flate.BestCompression)+" S> "+plain(0x82, string(dynamic))+" OPEN",
		"C> "+packedAt(0xc2, dynamic, flate.HuffmanOnly)+" S> "+plain(0x82, string(dynamic))+" OPEN"))
	add(traces("D-11", "after a block with BFINAL decoding goes on",
		"C> c1 8e z f348cdc9c90700f248cdc9c90700 S> 81 0a 48656c6c6f48656c6c6f OPEN",
		"C> c1 88 z f348cdc9c9070000 "+helloOnce+"S> "+gotHello+gotHello+"OPEN",
		"C> c1 88 z f348cdc9c9070000 c1 85 z "+helloRef+" S> "+gotHello+gotHello+"OPEN"))
	for _, empty := range []string{"81 z 00", "82 z 0200", "83 z 030000"} {
		add(traces("D-12", "an empty compressed message is one",
			"C> c1 "+empty+" "+helloOnce+"S> 81 00 "+gotHello+"OPEN", "C> c2 "+empty+" S> 82 00 OPEN"))
	}
	add(traces("D-12", "in two frames too", "C> 41 80 z 80 81 z 00 S> 81 00 OPEN", "C> 41 81 z 02 80 81 z 00 "+helloOnce+"S> 81 00 "+gotHello+"OPEN"))

	const fail7 = "FAIL(1007)"
	for _, id := range []string{"D-13", "U-11"} {
		add(each(id, "UTF-8 is checked on what was inflated", fail7, "c1 87 z 000100feffff00", "c1 87 z 000100feffc300", "41 88 z 000300fcffe28220 80 81 z 00"))
		add(traces(id, "a code point may be split over fragments and blocks",
			"C> 41 87 z 000300fcffe282 80 82 z ac00 S> 81 03 e282ac OPEN",
			"C> c1 8e z 000100feffe2 00 0200fdff82ac 00 S> 81 03 e282ac OPEN"))
		add(each(id, "an impossible byte fails before the message ends", fail7, "41 86 z 000100feffff", "41 8a z 000100feffff", "c1 a0 z 000100feffff", "41 87 z 000200fdff c320"))
	}
	add(traces("D-13", "binary messages are not text", "C> c2 87 z 000100feffff00 S> 82 01 ff OPEN"))

	for _, id := range []string{"D-14", "X-04"} {
		add(each(id, "what does not inflate fails", fail7,
			"c1 82 z 0600", "c1 84 z ffffffff", "c1 8b z 0005000000 48656c6c6f 00", "c1 85 z "+helloRef, "41 82 z 0600", "c2 a0 z 06"))
	}
	add(each("D-14", "after a good one too", "S> "+gotHello+fail7, helloOnce+"c1 82 z 0600"))
	add(each("D-15", "a message ends exactly on the border of a block", fail7,
		"c1 86 z f248cdc9c907", "c1 8b z f248cdc9c907000000ffff", "c1 87 z f348cdc9c90700", "c1 80 z", "c2 80 z", "41 80 z 80 80 z",
		"c1 88 z "+hello+"00", "c1 82 z 0000", "c1 86 z 000500faff48", "c1 83 z 000500", "c1 89 z "+hello+"0000"))

	const (
		k   = 1 << 10
		mib = 1 << 20
	)
	limit := func(n int64) Options { return Options{ReadLimit: n} }
	zeros := func(n int) []byte { return make([]byte, n) }
	addWith(limit(16), traces("D-16", "the limit is that of what was inflated",
		"C> "+packed(0xc2, zeros(16))+" S> "+to(0x82, 16, 0)+" OPEN", "C> "+packed(0xc2, zeros(17))+" FAIL(1009)",
		"C> "+packed(0xc2, zeros(16))+" "+packed(0xc2, zeros(16))+" S> "+to(0x82, 16, 0)+" "+to(0x82, 16, 0)+" OPEN",
		"C> "+packed(0xc2, zeros(4096))+" FAIL(1009)"))
	addWith(limit(16), each("X-06", "of compressed messages in fragments too", "FAIL(1009)", inTwo(0x02, zeros(17))))
	addWith(limit(16), traces("L-01", "fragments add up", "C> "+inTwo(0x02, zeros(16))+" S> "+to(0x82, 16, 0)+" OPEN"))
	rows = append(rows, whole(with(Options{ReadLimit: mib, Deflate: Takeover}, traces("D-16", "a bomb is not inflated",
		"C> "+packed(0xc2, zeros(10*mib))+" FAIL(1009)",
		"C> "+packed(0xc2, zeros(mib+1))+" FAIL(1009)",
		"C> "+packed(0xc2, zeros(mib))+" S> "+to(0x82, mib, 0)+" OPEN")))...)
	flood := "41 a3 z " + strings.Repeat("000000ffff", 7) + " "
	for 41*strings.Count(flood, "z") < 4*k-41 {
		flood += "00 a3 z " + strings.Repeat("000000ffff", 7) + " "
	}
	rows = append(rows, whole(with(Options{ReadLimit: k, Deflate: Takeover}, each("D-17", "blocks without output are bounded too", "FAIL(1009)", flood)))...)
	noise := make([]byte, k)
	rng := rand.New(rand.NewPCG(7692, 1951))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	stored := fmt.Sprintf("c2 fe 0406 z 00 0004fffb %x 00", noise)
	addWith(limit(k), traces("D-18", "what takes more room compressed may have it", "C> "+stored+" S> "+plain(0x82, string(noise))+" OPEN"))
	addWith(limit(k), each("L-03", "compressed bytes are bounded by what is announced", "FAIL(1009)",
		"c2 fe 0881 z", "c1 fe 0881 z", "42 fe 0880 z"+strings.Repeat(" 000000ffff", 435)+" 02 00 81 z", "c2 ff 7fffffffffffffff z", "42 8a z 000000ffff000000ffff 80 fe 0877 z"))
	addWith(limit(k), traces("L-03", "up to a bound", "C> c2 fe 0880 z nothing FIN DROP",
		"C> 42 fe 0880 z"+strings.Repeat(" 000000ffff", 435)+" 00 80 80 z S> 82 00 OPEN"))
	addWith(limit(k), traces("X-06", "plain messages have no slack",
		"C> 82 fe 0401 z FAIL(1009)", "C> 42 81 z 02 80 81 z 00 82 fe 0401 z S> 82 00 FAIL(1009)"))

	for _, n := range []int{0, 1, 2, 100} {
		add(traces("D-19", "what is sent inflates to the message", "C> "+from(0x81, n, 'a')+" S> "+to(0x81, n, 'a')+" OPEN",
			"C> "+packed(0xc2, bytes.Repeat([]byte{'b'}, n))+" S> "+to(0x82, n, 'b')+" OPEN"))
	}
	rows = append(rows, whole(with(Options{Deflate: Takeover}, traces("D-20", "a long message is compressed as a whole",
		"C> "+from(0x81, mib, 'a')+" 89 80 z S> "+to(0x81, mib, 'a')+" 8a 00 OPEN",
		"C> "+from(0x82, 60000, 'a')+" "+from(0x82, 60000, 'a')+" S> "+to(0x82, 60000, 'a')+" "+to(0x82, 60000, 'a')+" OPEN")))...)
	for _, d := range []Deflate{OwnAlone, Takeover, SmallWindows} {
		two := "C> " + frameOf(0x81, 0x80, song) + " " + frameOf(0x81, 0x80, song) + " S> " + plain(0x81, song) + " " + plain(0x81, song) + " OPEN"
		addWith(Options{Deflate: d}, traces("D-21", "what is sent inflates as was agreed on", two))
		a, b := string(noise[:512]), string(noise[512:])
		addWith(Options{Deflate: d}, traces("D-22", "and refers no further back than that",
			"C> "+frameOf(0x82, 0x80, a+b+a)+" "+frameOf(0x82, 0x80, a[:200]+a[:200])+" "+frameOf(0x82, 0x80, a)+" "+frameOf(0x82, 0x80, a+a)+
				" S> "+plain(0x82, a+b+a)+" "+plain(0x82, a[:200]+a[:200])+" "+plain(0x82, a)+" "+plain(0x82, a+a)+" OPEN"))
	}
	last := fmt.Sprintf("%x", noise[:3])
	window := fmt.Sprintf("00 0001fffe %x", noise[:256])
	addWith(Options{Deflate: SmallWindows}, traces("D-23", "what the window holds can be referred to",
		"C> c2 fe 0106 z "+window+" 00 "+CopyOf(256)+" S> "+plain(0x82, string(noise[:256]))+" 82 03 "+last+" OPEN"))
	addWith(Options{Deflate: SmallWindows}, each("D-23", "and nothing else", "S> "+plain(0x82, string(noise[:256]))+" 82 01 00 FAIL(1007)",
		"c2 fe 0106 z "+window+" 00 c2 87 z 000100feff00 00 "+CopyOf(257)))
	return rows
}

// packed is a frame with p compressed by the standard library, alone.
func packed(b0 byte, p []byte) string { return packedAt(b0, p, flate.BestCompression) }

func packedAt(b0 byte, p []byte, level int) string {
	return frameOf(b0, 0x80, string(squeeze(p, level)))
}

func squeeze(p []byte, level int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	w.Write(p)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// inTwo is a compressed message in two frames.
func inTwo(op byte, p []byte) string {
	b := squeeze(p, flate.BestCompression)
	return frameOf(0x40|op, 0x80, string(b[:2])) + " " + frameOf(0x80, 0x80, string(b[2:]))
}

// frameOf is a frame in notation, masked with z or not.
func frameOf(b0, mask byte, p string) string {
	key := ""
	if mask != 0 {
		key = "z "
	}
	return fmt.Sprintf("%x %s%x", appendHead(nil, b0, mask, len(p)), key, p)
}

func plain(b0 byte, p string) string { return frameOf(b0, 0, p) }

// masked masks with k.
func masked(notation string) string {
	b := mustBytes(notation)
	for i := range b {
		b[i] ^= []byte{0x37, 0xfa, 0x21, 0x3d}[i%4]
	}
	return fmt.Sprintf("%x", b)
}

// CopyOf is a frame with a message of three bytes, those from so far back.
func CopyOf(distance int) string {
	var bits []int
	code := func(v, n int) { // codes begin with the highest bit
		for i := n - 1; i >= 0; i-- {
			bits = append(bits, v>>i&1)
		}
	}
	number := func(v, n int) { // numbers with the lowest
		for i := range n {
			bits = append(bits, v>>i&1)
		}
	}
	number(0, 1)
	number(1, 2)
	code(1, 7) // a length of 3
	symbol, extra, first := distance-1, 0, distance
	for s := 4; s < 30; s++ {
		if base := 1 + (2+s%2)<<(s/2-1); base <= distance {
			symbol, extra, first = s, s/2-1, base
		}
	}
	code(symbol, 5)
	number(distance-first, extra)
	code(0, 7)
	number(0, 3) // the empty block that ends the message
	b := make([]byte, (len(bits)+7)/8)
	for i, bit := range bits {
		b[i/8] |= byte(bit << (i % 8))
	}
	return frameOf(0xc2, 0x80, string(b))
}

// Stored is p as it is, in blocks of a compressed message.
func Stored(p []byte) (b []byte) {
	for len(p) > 0 {
		n := min(len(p), 0xffff)
		b = append(b, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, p[:n]...)
		p = p[n:]
	}
	return append(b, 0)
}

// WithDeflate are the rows of [Rows] without compression, where it has been agreed
// on. What they send is not compressed, so that nothing else becomes of it, but
// for those that [ByDeflate] has.
func WithDeflate() []Row {
	var rows []Row
	for _, row := range Rows() {
		if row.Options.Deflate == NoDeflate && !slices.Contains(ByDeflate, strings.TrimPrefix(row.Trace, "C> ")) {
			row.Options.Deflate = Takeover
			rows = append(rows, row)
		}
	}
	return rows
}

// ByDeflate are those that become other rows by it: RSV1 on the first frame of a
// message is legal then.
var ByDeflate = []string{
	"c1 80 z FAIL(1002)", "c2 80 z FAIL(1002)", "c1 80 FAIL(1002)", "c2 80 FAIL(1002)",
	"81 81 z 61 S> 88 05 03e9 627965 C> c1 80 z EOF",
	"c1 80 z rep(ff,1048576) FAIL(1002)",
}

package websocket_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// How frames are cut into writes, if not into pieces of so many bytes.
const (
	whole = 0
	apart = -1 // each frame by itself
)

// sent is what the peer sends, a C> for each write.
func sent(cut int, frames ...[]byte) string {
	pieces := frames
	if cut != apart {
		pieces = [][]byte{slices.Concat(frames...)}
	}
	if cut > 0 {
		pieces = slices.Collect(slices.Chunk(pieces[0], cut))
	}
	var b strings.Builder
	for _, piece := range pieces {
		fmt.Fprintf(&b, "C> %x ", piece)
	}
	return b.String()
}

// got is what comes back, as the server sends it.
func got(frames ...conformance.Frame) string {
	b := []byte("S> ")
	for _, f := range frames {
		f.Fin = true
		b = fmt.Appendf(b, "%x ", f.Append(nil))
	}
	return string(b)
}

func aPing(payload string) []byte      { return masked(0x89, payload) }
func aText(payload string) []byte      { return masked(0x81, payload) }
func firstPart(payload string) []byte  { return masked(0x01, payload) }
func nextPart(payload string) []byte   { return masked(0x00, payload) }
func lastPart(payload string) []byte   { return masked(0x80, payload) }
func aClose(payload string) []byte     { return masked(0x88, payload) }
func code(n int) string                { return string([]byte{byte(n >> 8), byte(n)}) }
func reserved(n byte, f []byte) []byte { f[0] |= n << 4; return f }

func gotText(payload string) conformance.Frame {
	return conformance.Frame{Op: 1, Payload: []byte(payload)}
}
func gotPong(payload string) conformance.Frame {
	return conformance.Frame{Op: 10, Payload: []byte(payload)}
}

const (
	normal = "C> 88 82 z 03e8 CLEAN(03e8)" // the peer closes at the end
	fails2 = "FAIL(1002)"
	fails7 = "FAIL(1007)"

	hello  = "Hello, world!"
	word   = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
	beyond = "\xf4\x90\x80\x80" // U+110000
	edited = "edited"
	single = "\xed\xa0\x80" // a surrogate
)

// traceCases gives traces the numbers behind a prefix, from one on.
func traceCases(prefix string, traces ...string) (cases []peerCase) {
	for i, trace := range traces {
		cases = append(cases, peerCase{id: fmt.Sprint(prefix, i+1), trace: trace})
	}
	return cases
}

// peerCases are all of section 19, in order.
func peerCases() []peerCase {
	const middle = "middle frame payload"
	cases := slices.Concat(
		traceCases("1.1.", sizeTraces(0x81, "*")...),
		traceCases("1.2.", sizeTraces(0x82, "\xfe")...),
		traceCases("2.", controlTraces()...),
		traceCases("3.", reservedTraces()...),
		traceCases("4.1.", opcodeTraces(3)...),
		traceCases("4.2.", opcodeTraces(11)...),
		traceCases("5.", orderTraces()...),
		traceCases("6.1.",
			sent(whole, aText(""))+got(gotText(""))+normal,
			sent(whole, firstPart(""), nextPart(""), lastPart(""))+got(gotText(""))+normal,
			sent(whole, firstPart(""), nextPart(middle), lastPart(""))+got(gotText(middle))+normal),
		traceCases("6.2.", splitTraces()...),
		traceCases("6.3.",
			sent(whole, aText(word+single+edited))+fails7,
			sent(whole, eachByte(word+single+edited)...)+fails7),
		traceCases("6.4.", pausedTraces()...))
	words := utf8Words()
	for _, n := range slices.Sorted(maps.Keys(words)) {
		cases = append(cases, traceCases(fmt.Sprintf("6.%d.", n), textTraces(words[n])...)...)
	}
	return slices.Concat(cases, closeCases(), bulkCases())
}

func sizeTraces(b0 byte, unit string) (traces []string) {
	cuts := []int{whole, whole, whole, whole, whole, whole, whole, 997}
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		payload := strings.Repeat(unit, n)
		traces = append(traces, sent(cuts[i], masked(b0, payload))+got(conformance.Frame{Op: b0 & 15, Payload: []byte(payload)})+normal)
	}
	return traces
}

func controlTraces() []string {
	const noText = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	most := strings.Repeat("\xfe", 125)
	pong := func(payload string) []byte { return masked(0x8a, payload) }
	var pings [][]byte
	var pongs []conformance.Frame
	for i := range 10 {
		payload := fmt.Sprint("payload-", i)
		pings, pongs = append(pings, aPing(payload)), append(pongs, gotPong(payload))
	}
	return []string{
		sent(whole, aPing("")) + got(gotPong("")) + normal,
		sent(whole, aPing(hello)) + got(gotPong(hello)) + normal,
		sent(whole, aPing(noText)) + got(gotPong(noText)) + normal,
		sent(whole, aPing(most)) + got(gotPong(most)) + normal,
		sent(whole, aPing(most+"\xfe")) + fails2,
		sent(1, aPing(most)) + got(gotPong(most)) + normal,
		sent(whole, pong("")) + normal,
		sent(whole, pong("unsolicited")) + normal,
		sent(whole, pong("unsolicited"), aPing("ping")) + got(gotPong("ping")) + normal,
		sent(whole, pings...) + got(pongs...) + normal,
		sent(1, pings...) + got(pongs...) + normal,
	}
}

func reservedTraces() []string {
	after := func(cut int, n byte) string {
		return sent(cut, aText(hello), reserved(n, aText(hello)), aPing("")) + got(gotText(hello)) + fails2
	}
	return []string{
		sent(whole, reserved(1, aText(hello))) + fails2,
		after(whole, 2), after(apart, 3), after(1, 4),
		sent(whole, reserved(5, masked(0x82, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))) + fails2,
		sent(whole, reserved(6, masked(0x82, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))) + fails2,
		sent(whole, reserved(7, aClose(code(1000)))) + fails2,
	}
}

func opcodeTraces(op byte) []string {
	after := func(cut int, op byte, payload string) string {
		return sent(cut, aText(hello), masked(0x80|op, payload), aPing("")) + got(gotText(hello)) + fails2
	}
	return []string{
		sent(whole, masked(0x80|op, "")) + fails2,
		sent(whole, masked(0x80|(op+1), "reserved opcode payload")) + fails2,
		after(whole, op+2, ""), after(whole, op+3, hello), after(1, op+4, hello),
	}
}

func orderTraces() []string {
	f := []string{"fragment1", "fragment2", "fragment3", "fragment4", "fragment5"}
	both, all := f[0]+f[1], strings.Join(f, "")
	traces := []string{
		sent(whole, masked(0x09, f[0]), lastPart(f[1])) + fails2,
		sent(whole, masked(0x0a, f[0]), lastPart(f[1])) + fails2,
	}
	cuts := []int{whole, apart, 1}
	for _, cut := range cuts {
		traces = append(traces, sent(cut, firstPart(f[0]), lastPart(f[1]))+got(gotText(both))+normal)
	}
	for _, cut := range cuts {
		traces = append(traces, sent(cut, firstPart(f[0]), aPing("ping payload"), lastPart(f[1]))+got(gotPong("ping payload"), gotText(both))+normal)
	}
	for _, stray := range []func(string) []byte{lastPart, nextPart} {
		for _, cut := range cuts {
			traces = append(traces, sent(cut, stray("non-continuation payload"), aText(hello))+fails2)
		}
	}
	paused := func(cut int) string {
		return sent(cut, firstPart(f[0]), nextPart(f[1]), aPing("pongme 1!")) + got(gotPong("pongme 1!")) + "nothing " +
			sent(cut, nextPart(f[2]), nextPart(f[3]), aPing("pongme 2!"), lastPart(f[4])) + got(gotPong("pongme 2!"), gotText(all)) + normal
	}
	traces = append(traces, sent(whole, firstPart(f[0]), lastPart(f[1]), nextPart(f[2]), aText(f[3]))+got(gotText(both))+fails2)
	for _, stray := range []func(string) []byte{nextPart, lastPart} {
		traces = append(traces, sent(whole, stray(f[0]), firstPart(f[1]), lastPart(f[2]), stray(f[0]), firstPart(f[1]), lastPart(f[2]))+fails2)
	}
	return append(traces, sent(whole, firstPart(f[0]), aText(f[1]))+fails2, paused(whole), paused(apart))
}

// eachByte is a text message of a byte in each frame.
func eachByte(s string) (frames [][]byte) {
	for i := range len(s) {
		frames = append(frames, nextPart(s[i:i+1]))
	}
	frames[0][0] |= 1
	frames[len(s)-1][0] |= 0x80
	return frames
}

func splitTraces() []string {
	const one, two = "Hello-µ@ßöä", "üàá-UTF-8!!"
	return []string{
		sent(whole, aText(one+two)) + got(gotText(one+two)) + normal,
		sent(whole, firstPart(one), lastPart(two)) + got(gotText(one+two)) + normal,
		sent(whole, eachByte(one+two)...) + got(gotText(one+two)) + normal,
		sent(whole, eachByte(word)...) + got(gotText(word)) + normal,
	}
}

// pausedTraces have what is wrong between two pauses, in which the verdict falls:
// the rest is not sent any more.
func pausedTraces() []string {
	frame := aText(word + beyond + edited)
	head := len(frame) - len(word+beyond+edited)
	cut := func(from, to int) string { // the whole, cut before, and at, the byte that is wrong
		return sent(whole, frame[:from]) + "nothing " + sent(whole, frame[from:to]) + fails7
	}
	return []string{
		sent(whole, firstPart(word)) + "nothing " + sent(whole, nextPart(beyond)) + fails7,
		sent(whole, firstPart(word+beyond[:1])) + "nothing " + sent(whole, nextPart(beyond[1:2])) + fails7,
		cut(head+len(word), head+len(word+beyond)),
		cut(head+len(word)+1, head+len(word)+2),
	}
}

// textTraces have package unicode/utf8 for a judge.
func textTraces(words []string) (traces []string) {
	for _, s := range words {
		if utf8.ValidString(s) {
			traces = append(traces, sent(whole, aText(s))+got(gotText(s))+normal)
		} else {
			traces = append(traces, sent(whole, aText(s))+fails7)
		}
	}
	return traces
}

// utf8Words are those of Markus Kuhn's stress test, by the second number of
// their cases.
func utf8Words() map[int][]string {
	span := func(from, to byte, between string) string { // without the last
		var s []byte
		for b := from; b < to; b++ {
			s = append(append(s, b), between...)
		}
		return string(s)
	}
	cross := func(a, b []string) (words []string) {
		for _, x := range a {
			for _, y := range b {
				words = append(words, x+y)
			}
		}
		return words
	}
	w := map[int][]string{
		5: {"hello\x24world", "hello\u00a2world", "hello\u20acworld", "hello\U00024b62world", word},
		7: {"\x00", "\u0080", "\u0800", "\U00010000"},
		8: {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},
		9: {"\x7f", "\u07ff", "\uffff", "\U0010ffff"},

		10: {"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		11: {"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", beyond},
		12: {"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", span(0x80, 0xbf, "")},
		13: {span(0xc0, 0xdf, " "), span(0xe0, 0xef, " "), span(0xf0, 0xf7, " "), span(0xf8, 0xfb, " "), span(0xfc, 0xfd, " ")},
		14: {"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
			"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"},
		16: {"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		17: {"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		18: {"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		19: {"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		20: {single, "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		21: cross([]string{single, "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf"}, []string{"\xed\xb0\x80", "\xed\xbf\xbf"}),
		23: {"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"},
	}
	for i := range len(word) {
		w[6] = append(w[6], word[:i+1])
	}
	w[15] = []string{strings.Join(w[14], "")}
	for plane := range rune(17) {
		w[22] = append(w[22], string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	return w
}

func closeCases() []peerCase {
	normal := aClose(code(1000))
	clean := func(code int) string { return fmt.Sprintf("CLEAN(%04x)", code) }
	closes := func(payload, ending string) string { return sent(whole, aClose(payload)) + ending }
	large := strings.Repeat("BAsd7&jh23", 26215)[:256<<10]
	most := strings.Repeat("*", 123)
	cases := slices.Concat(
		traceCases("7.1.",
			sent(whole, aText(hello), normal)+got(gotText(hello))+clean(1000),
			sent(whole, normal, normal)+clean(1000),
			sent(whole, normal, aPing(""))+clean(1000),
			sent(whole, normal, aText(hello))+clean(1000),
			sent(whole, firstPart("fragment1"), normal, lastPart("fragment2"))+clean(1000),
			// The suite takes notes; here what was sent before the Close comes back.
			sent(whole, aText(large), aText(hello), normal, aPing(""))+got(gotText(large), gotText(hello))+clean(1000)),
		traceCases("7.3.",
			closes("", "CLEAN()"),
			closes("a", fails2),
			closes(code(1000), clean(1000)),
			closes(code(1000)+hello, clean(1000)),
			closes(code(1000)+most, clean(1000)),
			closes(code(1000)+most+"*", fails2)),
		traceCases("7.5.", closes(code(1000)+word+single+edited, fails7)))
	for i := range cases {
		switch cases[i].id {
		case "7.3.4":
			cases[i].reason = hello
		case "7.3.5":
			cases[i].reason = most
		}
	}
	var good, bad, high []string
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		good = append(good, closes(code(n), clean(n)))
	}
	for _, n := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		bad = append(bad, closes(code(n), fails2))
	}
	for _, n := range []int{5000, 65535} { // the suite takes notes
		high = append(high, closes(code(n), fails2))
	}
	return slices.Concat(cases, traceCases("7.7.", good...), traceCases("7.9.", bad...), traceCases("7.13.", high...))
}

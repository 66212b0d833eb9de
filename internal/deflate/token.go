package deflate

// A token is what a block consists of: a symbol in the lowest bits, and above
// them the value of the extra bits that follow its code. The symbols of the three
// alphabets are numbered as if they were one, so that all tokens are counted and
// written in one way, without asking what they are.
type token uint32

const (
	symbolBits = 9
	symbolMask = 1<<symbolBits - 1
	allSymbols = 1 << symbolBits // and some more, so that none needs a check
	// Where the alphabets of distances, and of code lengths, begin.
	firstDist = fixedLitSymbols
	firstPre  = firstDist + fixedDistSymbols
	// preSlots is room for the latter where as many are looked at together as
	// of the others.
	preSlots = 32
)

func newToken(symbol, extra int) token { return token(symbol | extra<<symbolBits) }

// extraBits is how many extra bits follow the code of each symbol.
var extraBits = func() (t [allSymbols]uint8) {
	copy(t[firstLength:], lengthExtra)
	copy(t[firstDist:], distExtra)
	copy(t[firstPre:], runExtra[:])
	return t
}()

// lengthTokens are those of lengths, at length-shortest.
var lengthTokens = func() (t [longest - shortest + 1]token) {
	for s, base := range lengthBase {
		base := int(base)
		for extra := range min(1<<lengthExtra[s], longest-base+1) {
			t[base-shortest+extra] = newToken(firstLength+s, extra)
		}
	}
	return t
}()

// near is up to where each distance has a place of its own in distStarts.
const near = 256

// distStarts has for distance d at d-1, and behind those for distances above near
// at (d-1)/128, the symbol and, in the upper half, the least distance that it
// stands for.
var distStarts = func() (t [2 * near]uint32) {
	for s, base := range distBase {
		base := int(base)
		for d := base; d < base+1<<distExtra[s]; d++ {
			t[distPlace(d)] = uint32(firstDist+s) | uint32(base)<<16
		}
	}
	return t
}()

func distPlace(distance int) int {
	i := distance - 1
	isFar := (near - 1 - i) >> 31 // all ones or 0: which it is is hard to guess
	return (i ^ (i^(near+i>>7))&isFar) & (2*near - 1)
}

// distToken is the token of a distance.
func distToken(distance int) token {
	start := distStarts[distPlace(distance)]
	return newToken(int(start&symbolMask), distance-int(start>>16))
}

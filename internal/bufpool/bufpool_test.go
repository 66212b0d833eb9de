package bufpool

import "testing"

func TestGetSizes(t *testing.T) {
	for _, n := range []int{0, 1, Min - 1, Min, Min + 1, 4 * Min, 4*Min + 1, 1 << 20, Max - 1, Max, Max + 1} {
		b := Get(n)
		if len(b.B) < n || len(b.B) != cap(b.B) {
			t.Errorf("Get(%d): len %d, cap %d", n, len(b.B), cap(b.B))
		}
		if n > Min && n <= Max && len(b.B) >= 4*n {
			t.Errorf("Get(%d) lends %d bytes: four times too much", n, len(b.B))
		}
		b.B = b.B[:n/2]
		Put(b)
		again := Get(n)
		if len(again.B) < n {
			t.Errorf("Get(%d) after a Put of a resliced buffer: len %d", n, len(again.B))
		}
		Put(again)
	}
	Put(nil)
}

func TestReuseDoesNotAllocate(t *testing.T) {
	Put(Get(4096))
	if n := testing.AllocsPerRun(100, func() { Put(Get(4096)) }); n >= 1 && !raceEnabled {
		t.Errorf("Get and Put allocate %v times", n)
	}
}

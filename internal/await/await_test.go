package await

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestTurnTakeGive(t *testing.T) {
	var turn Turn
	if turn.Holder() != 0 || turn.Claimed() || !isClosed(turn.Freed()) {
		t.Error("the zero Turn is not free")
	}
	for _, as := range []int32{1, 2, 0xffff} {
		if !turn.Take(as) || turn.Holder() != as {
			t.Fatalf("cannot take it as %d: holder %d", as, turn.Holder())
		}
		if turn.Take(7) || turn.Holder() != as {
			t.Fatalf("taken twice: holder %d", turn.Holder())
		}
		turn.Give()
		if turn.Holder() != 0 {
			t.Fatalf("given back, and still held by %d", turn.Holder())
		}
	}
}

func TestTurnUncontendedIsCheap(t *testing.T) {
	var turn Turn
	if n := testing.AllocsPerRun(100, func() { turn.Take(1); turn.Give() }); n != 0 {
		t.Errorf("Take and Give allocate %v times", n)
	}
}

func TestTurnClaim(t *testing.T) {
	var turn Turn
	c := turn.Claim(3)
	if c == nil || !isClosed(c.Granted) || turn.Holder() != 3 || turn.Claimed() {
		t.Fatal("a claim on a free turn is not granted at once")
	}
	next := turn.Claim(4)
	if next == nil || isClosed(next.Granted) || !turn.Claimed() || turn.Holder() != 3 {
		t.Fatal("a claim on a held turn does not wait")
	}
	if turn.Claim(5) != nil {
		t.Fatal("two claims at once")
	}
	if turn.Take(5) {
		t.Fatal("taken over the holder and the claim")
	}
	turn.Give()
	if !isClosed(next.Granted) || turn.Holder() != 4 || turn.Claimed() {
		t.Fatalf("Give does not pass it on: holder %d", turn.Holder())
	}
	turn.Drop(next) // after it was granted: as Give
	if turn.Holder() != 0 || !turn.Take(1) {
		t.Fatal("Drop of a granted claim keeps the turn")
	}
	dropped := turn.Claim(6)
	turn.Drop(dropped)
	if turn.Claimed() || turn.Holder() != 1 {
		t.Fatal("Drop of a claim that waits does not take it back")
	}
	turn.Give()
	if turn.Holder() != 0 || isClosed(dropped.Granted) {
		t.Fatal("a dropped claim was granted")
	}
	if !turn.Take(2) {
		t.Fatal("a turn that was waited for cannot be taken")
	}
}

func TestTurnFreed(t *testing.T) {
	var turn Turn
	turn.Take(1)
	freed := turn.Freed()
	if isClosed(freed) || turn.Freed() != freed || turn.Holder() != 1 || turn.Claimed() {
		t.Fatal("Freed of a held turn")
	}
	c := turn.Claim(2)
	turn.Give() // to the claim: it is not free
	if isClosed(freed) || !isClosed(c.Granted) || turn.Holder() != 2 {
		t.Fatal("the turn was passed on, and is taken for free")
	}
	turn.Give()
	if !isClosed(freed) || turn.Holder() != 0 {
		t.Fatal("those who wait are not told")
	}
	turn.Take(1)
	if isClosed(turn.Freed()) {
		t.Fatal("Freed is closed for ever")
	}
	turn.Give()
}

// TestTurnRace: whoever waits gets the turn at last, and nobody has it beside
// another. A wake-up that is lost is a deadlock, which the bubble reports.
func TestTurnRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn Turn
		var wg sync.WaitGroup
		held, rounds := 0, 0 // guarded by turn, as the race detector knows
		hold := func(as int32) {
			if held++; held != 1 || turn.Holder() != as {
				t.Errorf("%d hold it, one of them as %d, the holder is %d", held, as, turn.Holder())
			}
			rounds++
			held--
			turn.Give()
		}
		const each = 2000
		for as := range int32(3) {
			wg.Go(func() { // competes
				for range each {
					for !turn.Take(as + 1) {
						<-turn.Freed()
					}
					hold(as + 1)
				}
			})
		}
		for as := range int32(3) {
			wg.Go(func() { // claims, and now and then thinks better of it
				for range each {
					c := turn.Claim(as + 10)
					for c == nil {
						<-turn.Freed()
						c = turn.Claim(as + 10)
					}
					if rand.N(3) == 0 {
						turn.Drop(c)
						continue
					}
					<-c.Granted
					hold(as + 10)
				}
			})
		}
		wg.Wait()
		if turn.Holder() != 0 || turn.Claimed() || turn.state.Load() != 0 || turn.waiters != nil {
			t.Errorf("left behind: state %x, claimed %v, waiters %v", turn.state.Load(), turn.Claimed(), turn.waiters)
		}
		if rounds < 3*each {
			t.Errorf("%d rounds", rounds)
		}
	})
}

func TestOnce(t *testing.T) {
	var late, early Once
	c := late.Done()
	if isClosed(c) || late.Done() != c {
		t.Error("it has happened before Set, or each call makes a channel")
	}
	late.Set()
	late.Set()
	if !isClosed(c) || !isClosed(late.Done()) {
		t.Error("those who waited are not told")
	}
	early.Set()
	if !isClosed(early.Done()) {
		t.Error("those who come late are not told")
	}
	if n := testing.AllocsPerRun(100, func() { early.Set(); early.Done() }); n != 0 {
		t.Errorf("Set and Done after it allocate %v times", n)
	}
}

func TestOnceRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 500 {
			var once Once
			var happened atomic.Bool
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					<-once.Done()
					if !happened.Load() {
						t.Error("told before it happened")
					}
				})
				wg.Go(func() {
					happened.Store(true)
					once.Set()
				})
			}
			wg.Wait()
		}
	})
}

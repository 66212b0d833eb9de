package await

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

func TestRename(t *testing.T) {
	var turn Turn
	if turn.Rename(0, 0) && turn.Holder() != 0 || turn.Rename(1, 2) {
		t.Error("a free turn is renamed")
	}
	turn.Take(1)
	if turn.Rename(2, 3) || turn.Holder() != 1 {
		t.Error("renamed from a name that nobody has")
	}
	if !turn.Rename(1, 2) || turn.Holder() != 2 || turn.Take(1) {
		t.Error("not renamed")
	}
	if n := testing.AllocsPerRun(100, func() { turn.Rename(2, 3); turn.Rename(3, 2) }); n != 0 {
		t.Errorf("Rename allocates %v times", n)
	}
}

// A claim outlives a new name of the holder, and those who wait are told of it.
func TestRenameWithClaimAndWaiters(t *testing.T) {
	var turn Turn
	turn.Take(1)
	freed, claim := turn.Freed(), turn.Claim(7)
	if turn.Rename(2, 3) || isClosed(freed) {
		t.Fatal("a rename that fails tells somebody")
	}
	if !turn.Rename(1, 2) || turn.Holder() != 2 || !turn.Claimed() || isClosed(claim.Granted) {
		t.Fatalf("renamed: holder %d, claimed %v", turn.Holder(), turn.Claimed())
	}
	if !isClosed(freed) {
		t.Fatal("those who wait are not told of the new name")
	}
	freed = turn.Freed()
	if isClosed(freed) {
		t.Fatal("they are told for ever")
	}
	turn.Drop(claim)
	if !turn.Rename(2, 3) || turn.Claimed() || !isClosed(freed) {
		t.Fatal("renamed after a claim was dropped")
	}
	turn.Give()
	if turn.Holder() != 0 || !turn.Take(1) {
		t.Fatal("the turn is not free after Give")
	}
	claim = turn.Claim(7)
	turn.Rename(1, 2)
	turn.Give()
	if turn.Holder() != 7 || !isClosed(claim.Granted) {
		t.Fatalf("Give of a renamed turn: holder %d", turn.Holder())
	}
}

// TestRenameModel compares calls in any order with what they are to do.
func TestRenameModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var turn Turn
		holder := int32(0)
		var claim *Claim
		var freed []<-chan struct{} // that are open
		told := func() {
			for _, c := range freed {
				if !isClosed(c) {
					t.Fatal("one who waits is not told")
				}
			}
			freed = nil
		}
		for range 30 {
			name, to := 1+rng.Int32N(3), 1+rng.Int32N(3)
			switch rng.IntN(6) {
			case 0:
				if turn.Take(name) != (holder == 0) {
					t.Fatalf("Take, held by %d", holder)
				}
				if holder == 0 {
					holder = name
				}
			case 1:
				if turn.Rename(name, to) != (holder == name) {
					t.Fatalf("Rename from %d, held by %d", name, holder)
				}
				if holder == name {
					holder = to
					told()
				}
			case 2:
				c := turn.Claim(name)
				switch {
				case claim != nil && c != nil:
					t.Fatal("two claims")
				case claim == nil && holder == 0:
					if !isClosed(c.Granted) {
						t.Fatal("a free turn is not granted")
					}
					holder = name
				case claim == nil:
					claim = c
				}
			case 3:
				if claim != nil {
					turn.Drop(claim)
					claim = nil
				}
			case 4:
				c := turn.Freed()
				if isClosed(c) != (holder == 0) {
					t.Fatalf("Freed, held by %d", holder)
				}
				if holder != 0 {
					freed = append(freed, c)
				}
			case 5:
				if holder == 0 {
					continue
				}
				turn.Give()
				if claim != nil {
					if !isClosed(claim.Granted) {
						t.Fatal("Give does not grant the claim")
					}
					holder, claim = claim.as, nil
					continue
				}
				holder = 0
				told()
			}
			if turn.Holder() != holder || turn.Claimed() != (claim != nil) {
				t.Fatalf("held by %d, want %d; claimed %v, want %v", turn.Holder(), holder, turn.Claimed(), claim != nil)
			}
			for _, c := range freed {
				if isClosed(c) {
					t.Fatal("one who waits is told for nothing")
				}
			}
		}
	}
}

// TestRenameRace: a holder changes its name to and fro, under one of which
// another may take the turn from it, as others claim it and wait for it. It is
// taken from the holder once, at a moment when its name allows that, and
// nobody's wake-up is lost: that would be a deadlock, which the bubble reports.
func TestRenameRace(t *testing.T) {
	const holds, lends, taken, claims = 1, 2, 3, 4
	synctest.Test(t, func(t *testing.T) {
		for range 2000 {
			var turn Turn
			var wg sync.WaitGroup
			inside := 0 // guarded by the turn under the name holds
			end := make(chan struct{})
			turn.Take(holds)
			wg.Go(func() { // the holder
				for {
					inside++
					if !turn.Rename(holds, lends) {
						t.Error("the turn is taken from one who did not lend it")
					}
					if !turn.Rename(lends, holds) {
						return
					}
					if inside++; inside == 50 {
						turn.Give()
						return
					}
				}
			})
			wg.Go(func() { // takes it for good
				for {
					freed := turn.Freed()
					if turn.Take(taken) || turn.Rename(lends, taken) {
						inside++
						close(end)
						return
					}
					<-freed
				}
			})
			wg.Go(func() { // would like it
				c := turn.Claim(claims)
				if c == nil {
					return
				}
				select {
				case <-c.Granted:
					inside++
					turn.Give()
				case <-end:
					turn.mu.Lock() // it never comes now
					granted := turn.get().claim != c
					turn.mu.Unlock()
					if granted {
						t.Error("granted, and taken for good")
					}
					turn.Drop(c)
				}
			})
			wg.Wait()
			if turn.Holder() != taken {
				t.Fatalf("held by %d at last", turn.Holder())
			}
		}
	})
}

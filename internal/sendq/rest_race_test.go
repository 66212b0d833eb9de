package sendq

import (
	"sync"
	"testing"
)

// Those who flush meet one who rests when all is out: whoever comes late finds
// a queue that holds nothing.
func TestFlushMeetsRest(t *testing.T) {
	for name, flush := range map[string]func(q *Queue){
		"Flush": (*Queue).Flush, "Attend": (*Queue).Attend, "Paced": (*Queue).Paced,
	} {
		t.Run(name, func(t *testing.T) {
			var q Queue
			q.Init(taker{}, nil, &Options{Limit: 1 << 20})
			frame := []byte("frame")
			for range 20_000 {
				if _, err := q.Post(nil, frame, false); err != nil {
					t.Fatal(err)
				}
				var both sync.WaitGroup
				both.Go(func() { flush(&q) })
				q.Flush()
				q.Rest()
				both.Wait()
			}
		})
	}
}

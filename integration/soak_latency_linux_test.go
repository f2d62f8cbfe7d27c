//go:build soak

package integration_test

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// latencies has the times of requests, and how many failed.
type latencies struct {
	mu       sync.Mutex
	times    []time.Duration
	failures []error
}

// measure makes PC1 request a page 200 times a second, each time by a new connection, until
// during returns. A slow request does not delay the next.
func (s *scene) measure(during func()) *latencies {
	s.t.Helper()
	return s.measureAt("http://192.168.1.2/", during)
}

func (s *scene) measureAt(url string, during func()) *latencies {
	s.t.Helper()
	client := s.PC1.HTTPClient()
	return measureBy(func() (string, error) { return fetch(client, url) }, during)
}

// measureBy asks 200 times a second until during returns. The answer must be "a".
func measureBy(ask func() (string, error), during func()) *latencies {
	l, over := new(latencies), make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case began := <-tick.C:
				asking.Go(func() {
					body, err := ask()
					l.add(time.Since(began), body, err)
				})
			}
		}
	})
	during()
	close(over)
	asking.Wait()
	return l
}

func (l *latencies) add(took time.Duration, body string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || body != "a" {
		l.failures = append(l.failures, fmt.Errorf("%q, %w", body, err))
		return
	}
	l.times = append(l.times, took)
}

// failed says how many requests failed, and of how many.
func (l *latencies) failed() string {
	return fmt.Sprintf("%d of %d", len(l.failures), len(l.failures)+len(l.times))
}

// beyond returns the share of requests that took longer than the limit, in per cent.
func (l *latencies) beyond(limit time.Duration) float64 {
	n := 0
	for _, took := range l.times {
		if took > limit {
			n++
		}
	}
	return 100 * float64(n) / float64(max(len(l.times), 1))
}

func (l *latencies) percentile(p int) time.Duration { return gauge.Percentile(l.times, p) }

func (l *latencies) String() string {
	var texts []string
	for _, p := range []int{50, 99, 100} {
		texts = append(texts, l.percentile(p).Round(10*time.Microsecond).String())
	}
	return strings.Join(texts, " / ")
}

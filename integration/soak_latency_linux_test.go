//go:build soak

package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// asAsker is the environment variable that makes this test binary a client, which asks until it gets
// SIGTERM, and then prints how long each request took.
const asAsker = "CADDY_VNIC_AS_ASKER"

func init() { programs[asAsker] = askAndTell }

// asking tells such a client what to ask. The answer must be "a".
type asking struct{ Host, URL string }

// asked is what it tells.
type asked struct {
	Times    []time.Duration
	Failures []string
}

// measureApart is measure by a client that is a process of its own. So it does not wait for what this
// process does meanwhile.
func (s *scene) measureApart(order asking, during func()) *latencies {
	s.t.Helper()
	cmd := s.program(asAsker, order)
	var output, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &problem
	asker, err := s.PC1.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	during()
	if err := asker.Stop(); err != nil {
		s.t.Fatal(err)
	}
	var told asked
	if err := json.Unmarshal(output.Bytes(), &told); err != nil {
		s.t.Fatalf("the client: %v: %s", err, &problem)
	}
	l := &latencies{times: told.Times}
	for _, text := range told.Failures {
		l.failures = append(l.failures, errors.New(text))
	}
	return l
}

// askAndTell is the client's main function.
func askAndTell() error {
	var order asking
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	l := measureBy(func() (string, error) { return getAs(client, order.Host, order.URL) }, func() { <-ended })
	told := asked{Times: l.times}
	for _, err := range l.failures {
		told.Failures = append(told.Failures, err.Error())
	}
	return json.NewEncoder(os.Stdout).Encode(told)
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

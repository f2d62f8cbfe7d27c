package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// connecting is what became of connections that were opened again and again.
type connecting struct {
	s    *scene
	stop chan struct{}
	done sync.WaitGroup

	mu                        sync.Mutex
	served                    int
	refused, broken, timedOut int
	longest                   time.Duration // until one was served
}

func (c *connecting) failed() int { return c.refused + c.broken + c.timedOut }

func (c *connecting) String() string {
	return fmt.Sprintf("%d served, the slowest in %v; %d refused, %d broken off, %d in vain", c.served, c.longest.Round(time.Millisecond), c.refused, c.broken, c.timedOut)
}

func (c *connecting) end() *connecting {
	close(c.stop)
	c.done.Wait()
	return c
}

// every calls once at an interval, beside the calls before, until the end.
func (c *connecting) every(interval time.Duration, once func()) {
	c.done.Go(func() {
		for tick := time.Tick(interval); ; <-tick {
			select {
			case <-c.stop:
				return
			default:
				c.done.Go(once)
			}
		}
	})
}

func (c *connecting) count(began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		c.served++
		c.longest = max(c.longest, time.Since(began))
	case errors.Is(err, syscall.ECONNREFUSED):
		c.refused++
	case errors.As(err, &timeout) && timeout.Timeout():
		c.timedOut++
	default:
		c.broken++
	}
}

// keepConnecting makes PC1 ask a server by 200 new connections a second, whose answer is "a".
func (s *scene) keepConnecting(address string) *connecting {
	c := &connecting{s: s, stop: make(chan struct{})}
	client := &http.Client{Transport: s.PC1.HTTPClient().Transport, Timeout: 30 * time.Second}
	c.every(5*time.Millisecond, func() {
		began := time.Now()
		got, err := fetch(client, "http://"+address+"/")
		if err == nil && got != "a" {
			err = fmt.Errorf("it is answered %q", got)
		}
		c.count(began, err)
	})
	return c
}
